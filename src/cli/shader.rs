//! `shader`.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use wgpu_optim::tools::files;
use wgpu_optim::tools::shader;
use wgpu_optim::tools::shader::{Checked, Shader, Target, Translation};
use wgpu_optim::{Error, Storage, storage};

use super::failure::Failure;
use super::output::{self, Output};
use super::rules::Settings;
use super::{PASSED, help};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    Wgsl,
    Spirv,
    Msl,
    Hlsl,
    Glsl,
}

impl Language {
    fn target(self) -> Option<Target> {
        match self {
            Self::Wgsl => None,
            Self::Spirv => Some(Target::Spirv),
            Self::Msl => Some(Target::Msl),
            Self::Hlsl => Some(Target::Hlsl),
            Self::Glsl => Some(Target::Glsl),
        }
    }

    fn name(self) -> &'static str {
        self.target().map_or("wgsl", Target::name)
    }
}

/// Print a kernel in WGSL or translated, or its bindings and layouts
///
/// NAME is an optimizer or one of the kernels that `train` runs. The step of an optimizer has the stage update, which computes the new
/// parameters and states. Before it, where the rule needs sums, are the stages stats, which sums each span of a tensor, and finalize, which
/// totals these sums and decides. Some rules have more stages: muon's kernels multiply matrices, and adafactor's sum rows and columns.
#[derive(Args, Debug)]
#[command(after_long_help = after_help())]
pub(super) struct Options {
    /// An optimizer or a kernel of `train`
    name: String,
    /// Print only this stage of a step; without the option, all stages, each under a heading
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    /// The language; spirv is binary and takes one stage at a time
    #[arg(long, value_enum, value_name = "LANGUAGE", default_value_t = Language::Wgsl)]
    target: Language,
    #[command(flatten)]
    settings: Settings,
    /// How tensors are stored, such as bf16-sr,8bit
    #[arg(long, value_name = "FORM", default_value = "f32")]
    storage: Storage,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print one JSON object per line: the run, then one per stage with its entry points, bindings, structs and text
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

fn after_help() -> String {
    let kernels: Vec<_> = wgpu_optim::tools::objectives::shaders().into_iter().map(|(name, _)| name).collect();
    format!(
        "\
Examples:
  wgpu-optim shader adamw
  wgpu-optim shader vradam --stage finalize --target hlsl
  wgpu-optim shader adamw --target spirv | spirv-dis
  wgpu-optim shader sgd --set momentum=0.9 --target msl --output sgd.metal
  wgpu-optim shader adamw --storage bf16-sr,8bit
  wgpu-optim shader adamw --json

The kernels of `train` are {}.

{}

{}
{}",
        kernels.join(", "),
        storage::HELP,
        help::optimizers(),
        help::EXIT
    )
}

pub(super) fn run(options: &Options) -> Result<u8, Failure> {
    if let Some(path) = &options.output {
        files::check_writable(path)?;
    }
    let shaders = chosen(options)?;
    let out = Output::new(options.json);
    out.header(None)?;
    if options.json {
        shaders.iter().try_for_each(|shader| describe(shader, options.target, &out))?;
        return Ok(PASSED);
    }
    let bytes =
        if options.target == Language::Spirv { words(&shaders, options)? } else { text(&shaders, options)?.into() };
    match &options.output {
        Some(path) => files::write(path, &bytes)?,
        None => output::raw(&bytes)?,
    }
    Ok(PASSED)
}

fn chosen(options: &Options) -> Result<Vec<Shader>, Failure> {
    let mut shaders = shader::find_stored(&options.name, &options.settings.pairs, &options.storage)?;
    let Some(stage) = options.stage.as_deref() else { return Ok(shaders) };
    let stages: Vec<_> = shaders.iter().filter_map(|shader| shader.stage).collect();
    shaders.retain(|shader| shader.stage == Some(stage));
    if shaders.is_empty() {
        let known = if stages.is_empty() { "no stages".to_owned() } else { stages.join(", ") };
        return Err(Error::Usage(format!("{} has no stage `{stage}`; it has {known}", options.name)).into());
    }
    Ok(shaders)
}

/// The texts. If there are several, each has a heading.
fn text(shaders: &[Shader], options: &Options) -> Result<String, Failure> {
    let mut texts = Vec::new();
    for shader in shaders {
        let label = [Some(shader.name.as_str()), shader.stage].into_iter().flatten().collect::<Vec<_>>().join(", ");
        match options.target.target() {
            None => texts.push((label, shader.wgsl.clone())),
            Some(target) => {
                let Translation::Texts(translated) = Checked::new(&shader.wgsl)?.translate(target)? else { continue };
                texts.extend(translated.into_iter().map(|(points, text)| (format!("{label}: {points}"), text)));
            }
        }
    }
    if let [(_, text)] = &texts[..] {
        return Ok(text.clone());
    }
    Ok(texts.into_iter().map(|(label, text)| format!("// ======== {label}\n{text}\n")).collect())
}

fn words(shaders: &[Shader], options: &Options) -> Result<Vec<u8>, Failure> {
    let [shader] = shaders else {
        let stages: Vec<_> = shaders.iter().filter_map(|shader| shader.stage).collect();
        let problem = format!("SPIR-V takes one stage at a time: choose --stage {}", stages.join(" or --stage "));
        return Err(Error::Usage(problem).into());
    };
    if options.output.is_none() && std::io::stdout().is_terminal() {
        return Err(Error::Usage("SPIR-V is binary: give --output FILE or pipe it".to_owned()).into());
    }
    match Checked::new(&shader.wgsl)?.translate(Target::Spirv)? {
        Translation::Words(words) => Ok(words.iter().flat_map(|word| word.to_le_bytes()).collect()),
        Translation::Texts(_) => Ok(Vec::new()),
    }
}

fn describe(shader: &Shader, language: Language, out: &Output) -> Result<(), Failure> {
    let checked = Checked::new(&shader.wgsl)?;
    let layout = checked.layout()?;
    let code = match language.target() {
        None => json!({ "text": shader.wgsl }),
        Some(target) => match checked.translate(target)? {
            Translation::Words(words) => json!({ "words": words }),
            Translation::Texts(texts) => match &texts[..] {
                [(_, text)] => json!({ "text": text }),
                several => json!({ "text": several.iter().cloned().collect::<BTreeMap<_, _>>() }),
            },
        },
    };
    let head = json!({ "name": shader.name, "stage": shader.stage, "target": language.name() });
    let parts = [head, json!(layout), code];
    let merged: serde_json::Map<_, _> =
        parts.into_iter().filter_map(|part| part.as_object().cloned()).flatten().collect();
    out.json(&merged)
}
