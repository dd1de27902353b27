//! The texts of the kernels: their WGSL, its translation into other shading languages by naga, and its bindings and layouts.

use naga::back::{glsl, hlsl, msl, spv};
use naga::common::wgsl::TypeContext as _;
use naga::proc::{BoundsCheckPolicies, GlobalCtx, Layouter};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, GlobalVariable, Handle, Module, ShaderStage, StorageAccess, Type, TypeInner};
use serde::Serialize;

use crate::gpu::kernel::matrices::Kernel;
use crate::optim::Value;
use crate::tools::objectives;
use crate::{Class, Error, Result, Stage, Storage, optim};

/// A kernel's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shader {
    /// The name of the optimizer or of the objective's kernel.
    pub name: String,
    /// The stage of a step; `None` for the kernels of objectives.
    pub stage: Option<&'static str>,
    /// The complete WGSL.
    #[serde(skip)]
    pub wgsl: String,
}

/// The name of a stage on the command line. The pass of a procedure has the name of the procedure.
fn stage_name(class: &Class, stage: Stage) -> &'static str {
    match stage {
        Stage::Tiles => "tiles",
        Stage::Fold => "fold",
        Stage::Stats => "stats",
        Stage::Finalize => "finalize",
        Stage::Procedure => class.pass().map_or("procedure", |pass| pass.name),
        Stage::Update => "update",
        Stage::Rows => "rows",
    }
}

/// The texts of an optimizer with these settings, in the order of a step, or the text of an objective's kernel. Settings without a default
/// take a value that changes no text.
///
/// # Errors
/// The name or a setting is unknown; a value is out of range.
pub fn find(name: &str, settings: &[(String, Value)]) -> Result<Vec<Shader>> {
    find_stored(name, settings, &Storage::default())
}

/// As [`find`], for large tensors in this storage.
///
/// # Errors
/// As [`find`]; the optimizer refuses the storage.
pub fn find_stored(name: &str, settings: &[(String, Value)], storage: &Storage) -> Result<Vec<Shader>> {
    let kernels = objectives::shaders();
    if let Some((_, text)) = kernels.iter().find(|(kernel, _)| *kernel == name) {
        if let Some((setting, _)) = settings.first() {
            return Err(Error::Usage(format!("`{name}` is an objective's kernel and has no setting `{setting}`")));
        }
        return Ok(vec![Shader { name: name.to_owned(), stage: None, wgsl: text.clone() }]);
    }
    let known = optim::ALL.iter().map(|e| e.name).chain(kernels.iter().map(|(name, _)| *name));
    let entry = optim::find(name).map_err(|_| Error::unknown("optimizer or kernel", name, known))?;
    let given = |name: &&&str| !settings.iter().any(|(given, _)| given == *name);
    let required = entry.required.iter().filter(given).map(|name| (*name, Value::Number(1e-3)));
    let settings = settings.iter().map(|(name, value)| (name.as_str(), value.clone()));
    let rule = entry.configure(required.chain(settings))?;
    let large = u64::from(u32::MAX);
    let class = Class::of(rule.as_ref(), false, false).stored(rule.as_ref(), storage, large)?;
    let shader = |(stage, wgsl)| Shader { name: name.to_owned(), stage: Some(stage), wgsl };
    let mut texts: Vec<_> = class.stages().map(|stage| (stage_name(&class, stage), class.text(stage))).collect();
    if rule.procedure().is_some_and(|procedure| procedure.iteration().is_some()) {
        // The iteration follows the pass, and the update takes its result.
        let update = texts.len() - 1;
        texts.splice(update..update, Kernel::ALL.map(|kernel| (kernel.name(), kernel.text())));
    }
    Ok(texts.into_iter().map(shader).collect())
}

/// A target language of a translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Vulkan's language, in binary.
    Spirv,
    /// Metal's language.
    Msl,
    /// Direct3D 12's language.
    Hlsl,
    /// OpenGL ES 3.1's language, one text per entry point.
    Glsl,
}

impl Target {
    /// All targets.
    pub const ALL: [Self; 4] = [Self::Spirv, Self::Msl, Self::Hlsl, Self::Glsl];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spirv => "spirv",
            Self::Msl => "msl",
            Self::Hlsl => "hlsl",
            Self::Glsl => "glsl",
        }
    }
}

/// A translated kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Translation {
    /// Texts, each with the names of its entry points.
    Texts(Vec<(String, String)>),
    /// The words of SPIR-V.
    Words(Vec<u32>),
}

/// A kernel that naga has checked.
#[derive(Debug)]
pub struct Checked {
    module: Module,
    info: ModuleInfo,
}

impl Checked {
    /// Parses and validates WGSL.
    ///
    /// # Errors
    /// [`Error::Shader`] with the place of the fault in the text.
    pub fn new(wgsl: &str) -> Result<Self> {
        let module = naga::front::wgsl::parse_str(wgsl).map_err(|e| Error::Shader(e.emit_to_string(wgsl)))?;
        let info = Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module);
        let info = info.map_err(|e| Error::Shader(e.emit_to_string(wgsl)))?;
        Ok(Self { module, info })
    }

    /// Translates the kernel. Binding numbers stay those of the WGSL. The buffer of sizes that naga adds for Metal takes the next number.
    ///
    /// # Errors
    /// [`Error::Shader`] if the language cannot express the kernel.
    pub fn translate(&self, target: Target) -> Result<Translation> {
        match target {
            Target::Spirv => self.spirv(),
            Target::Msl => self.msl(),
            Target::Hlsl => self.hlsl(),
            Target::Glsl => self.glsl(),
        }
    }

    fn spirv(&self) -> Result<Translation> {
        spv::write_vec(&self.module, &self.info, &spv::Options::default(), None).map(Translation::Words).map_err(failed)
    }

    fn msl(&self) -> Result<Translation> {
        let slot = |v: &GlobalVariable| v.binding.map(|b| (b, b.binding as u8, writes(v)));
        let slots: Vec<_> = self.module.global_variables.iter().filter_map(|(_, v)| slot(v)).collect();
        let target =
            |(binding, slot, mutable)| (binding, msl::BindTarget { buffer: Some(slot), mutable, ..Default::default() });
        let resources = msl::EntryPointResources {
            sizes_buffer: Some(slots.len() as u8),
            resources: slots.into_iter().map(target).collect(),
            ..Default::default()
        };
        let points = self.module.entry_points.iter();
        let options = msl::Options {
            lang_version: (2, 0),
            per_entry_point_map: points.map(|p| (p.name.clone(), resources.clone())).collect(),
            fake_missing_bindings: false,
            ..Default::default()
        };
        let written = msl::write_string(&self.module, &self.info, &options, &msl::PipelineOptions::default());
        let (text, _) = written.map_err(failed)?;
        Ok(Translation::Texts(vec![(self.entry_points().join(", "), text)]))
    }

    fn hlsl(&self) -> Result<Translation> {
        let (options, pipeline) = (hlsl::Options::default(), hlsl::PipelineOptions::default());
        let mut text = String::new();
        hlsl::Writer::new(&mut text, &options, &pipeline).write(&self.module, &self.info, None).map_err(failed)?;
        Ok(Translation::Texts(vec![(self.entry_points().join(", "), text)]))
    }

    fn glsl(&self) -> Result<Translation> {
        let bindings = self.module.global_variables.iter().filter_map(|(_, v)| v.binding);
        let options = glsl::Options {
            version: glsl::Version::new_gles(310),
            binding_map: bindings.map(|b| (b, b.binding as u8)).collect(),
            ..Default::default()
        };
        let write = |entry_point: String| {
            let name = entry_point.clone();
            let pipeline = glsl::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point, multiview: None };
            let mut text = String::new();
            let policies = BoundsCheckPolicies::default();
            let writer = glsl::Writer::new(&mut text, &self.module, &self.info, &options, &pipeline, policies);
            writer.and_then(|mut writer| writer.write()).map_err(failed)?;
            Ok((name, text))
        };
        self.entry_points().into_iter().map(write).collect::<Result<_>>().map(Translation::Texts)
    }

    fn entry_points(&self) -> Vec<String> {
        self.module.entry_points.iter().map(|p| p.name.clone()).collect()
    }

    /// The kernel's entry points, bindings and structs.
    ///
    /// # Errors
    /// None for a kernel that naga has validated.
    pub fn layout(&self) -> Result<Layout> {
        let mut layouter = Layouter::default();
        layouter.update(self.module.to_ctx()).map_err(failed)?;
        let points = self.module.entry_points.iter();
        let variables = self.module.global_variables.iter();
        let structs = self.module.types.iter();
        Ok(Layout {
            entry_points: points
                .map(|p| EntryPoint { name: p.name.clone(), workgroup_size: p.workgroup_size })
                .collect(),
            bindings: variables.filter_map(|(_, v)| binding(self.module.to_ctx(), v)).collect(),
            structs: structs.filter_map(|(at, ty)| structure(self.module.to_ctx(), &layouter, at, ty)).collect(),
        })
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Shader(error.to_string())
}

fn writes(variable: &GlobalVariable) -> bool {
    matches!(variable.space, AddressSpace::Storage { access } if access.contains(StorageAccess::STORE))
}

/// The layout of a kernel: what the host must know to dispatch it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// The functions that the host dispatches.
    pub entry_points: Vec<EntryPoint>,
    /// The resources to bind.
    pub bindings: Vec<Binding>,
    /// The structs with their members.
    pub structs: Vec<Struct>,
}

/// A function to dispatch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntryPoint {
    /// Its name.
    pub name: String,
    /// Threads per workgroup in x, y and z.
    pub workgroup_size: [u32; 3],
}

/// A resource to bind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Binding {
    /// Its `@group`.
    pub group: u32,
    /// Its `@binding`.
    pub binding: u32,
    /// The variable's name.
    pub name: String,
    /// `uniform`, `read` or `read_write`.
    pub access: &'static str,
    /// Its type in WGSL.
    #[serde(rename = "type")]
    pub ty: String,
}

/// A struct's layout in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Struct {
    /// Its name.
    pub name: String,
    /// Its size in bytes; a runtime-sized array at the end counts with one element.
    pub size: u32,
    /// Its members in order.
    pub members: Vec<Member>,
}

/// A struct's member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its type in WGSL.
    #[serde(rename = "type")]
    pub ty: String,
    /// Its offset in the struct, in bytes.
    pub offset: u32,
    /// Its size in bytes; for a runtime-sized array, the size of one element.
    pub size: u32,
}

fn binding(context: GlobalCtx<'_>, variable: &GlobalVariable) -> Option<Binding> {
    let place = variable.binding?;
    let access = match variable.space {
        AddressSpace::Storage { .. } if writes(variable) => "read_write",
        AddressSpace::Storage { .. } => "read",
        _ => "uniform",
    };
    Some(Binding {
        group: place.group,
        binding: place.binding,
        name: variable.name.clone().unwrap_or_default(),
        access,
        ty: context.type_to_string(variable.ty),
    })
}

fn structure(context: GlobalCtx<'_>, layouter: &Layouter, at: Handle<Type>, ty: &Type) -> Option<Struct> {
    let TypeInner::Struct { members, .. } = &ty.inner else { return None };
    let member = |m: &naga::StructMember| Member {
        name: m.name.clone().unwrap_or_default(),
        ty: context.type_to_string(m.ty),
        offset: m.offset,
        size: layouter[m.ty].size,
    };
    Some(Struct { name: ty.name.clone()?, size: layouter[at].size, members: members.iter().map(member).collect() })
}
