//! A pipeline as wgpu gives it to a Vulkan driver: SPIR-V and the kinds of its bindings.

use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, ShaderStage};
use wgpu_optim::optim::Value;
use wgpu_optim::tools::shader;

use crate::budget::Budget;

pub(crate) struct Kernel {
    pub(crate) words: Vec<u32>,
    pub(crate) entry: String,
    /// For each binding, in order, whether it is a uniform.
    pub(crate) uniforms: Vec<bool>,
}

impl Kernel {
    /// The kernel of a budget, for one group of large tensors.
    pub(crate) fn of(budget: &Budget) -> Self {
        let of_storage = |(name, _): &&(&str, &str)| *name == "storage";
        let storage = budget.settings.iter().find(of_storage).map_or("f32", |(_, storage)| *storage);
        let settings = budget.settings.iter().filter(|setting| !of_storage(setting));
        let settings: Vec<(String, Value)> =
            settings.map(|(name, value)| ((*name).to_owned(), Value::parse(value))).collect();
        let shaders = shader::find_stored(budget.optimizer, &settings, &storage.parse().unwrap()).unwrap();
        let of_stage = shaders.into_iter().find(|shader| shader.stage == Some(budget.stage));
        Self::compile(&of_stage.unwrap_or_else(|| panic!("{} has no {}", budget.optimizer, budget.stage)).wgsl)
    }

    /// With the options that wgpu's Vulkan backend takes on a driver with robust buffers, and those of the engine's pipelines.
    fn compile(wgsl: &str) -> Self {
        let module = naga::front::wgsl::parse_str(wgsl).unwrap();
        let info = Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module).unwrap();
        let options = spv::Options {
            lang_version: (1, 6),
            flags: spv::WriterFlags::empty(),
            bounds_check_policies: BoundsCheckPolicies {
                index: BoundsCheckPolicy::Restrict,
                buffer: BoundsCheckPolicy::Unchecked,
                image_load: BoundsCheckPolicy::Unchecked,
                binding_array: BoundsCheckPolicy::Unchecked,
            },
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
            force_loop_bounding: false,
            ..spv::Options::default()
        };
        let entry = module.entry_points[0].name.clone();
        let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: entry.clone() };
        let words = spv::write_vec(&module, &info, &options, Some(&pipeline)).unwrap();
        let mut bindings: Vec<(u32, bool)> = module
            .global_variables
            .iter()
            .filter_map(|(_, variable)| {
                Some((variable.binding.as_ref()?.binding, variable.space == AddressSpace::Uniform))
            })
            .collect();
        bindings.sort_unstable();
        Self { words, entry, uniforms: bindings.into_iter().map(|(_, uniform)| uniform).collect() }
    }
}
