//! Every kernel's text validates, fits the default limits and translates.

use wgpu_optim::tools::objectives::shaders;

fn validated(name: &str, text: &str) -> (naga::Module, naga::valid::ModuleInfo) {
    use naga::valid::{Capabilities, ValidationFlags, Validator};
    let module = naga::front::wgsl::parse_str(text).unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(text)));
    let info = Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module);
    let info = info.unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(text)));
    (module, info)
}

#[test]
fn every_shader_validates_and_is_used() {
    let texts = shaders();
    for (name, text) in &texts {
        let (module, _) = validated(name, text);
        let storage = |v: &naga::GlobalVariable| matches!(v.space, naga::AddressSpace::Storage { .. });
        assert!(module.global_variables.iter().filter(|(_, v)| storage(v)).count() <= 7, "{name}");
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders/objectives");
    for file in std::fs::read_dir(folder).expect("the shaders") {
        let path = file.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("text");
        assert!(texts.iter().any(|(_, joined)| joined.contains(&text)), "{} is in no kernel", path.display());
    }
}

#[test]
fn every_shader_translates() {
    use naga::back::{glsl, hlsl, msl, spv};
    for (name, text) in shaders() {
        let (module, info) = validated(name, &text);
        spv::write_vec(&module, &info, &spv::Options::default(), None).unwrap_or_else(|e| panic!("{name}: {e}"));
        let options = msl::Options { lang_version: (2, 0), ..Default::default() };
        let written = msl::write_string(&module, &info, &options, &msl::PipelineOptions::default());
        written.unwrap_or_else(|e| panic!("{name}: {e}"));
        let (options, pipeline) = (hlsl::Options::default(), hlsl::PipelineOptions::default());
        let mut out = String::new();
        let written = hlsl::Writer::new(&mut out, &options, &pipeline).write(&module, &info, None);
        written.unwrap_or_else(|e| panic!("{name}: {e}"));
        let options = glsl::Options { version: glsl::Version::new_gles(310), ..Default::default() };
        let (shader_stage, entry_point) = (naga::ShaderStage::Compute, "main".to_owned());
        let pipeline = glsl::PipelineOptions { shader_stage, entry_point, multiview: None };
        let policies = naga::proc::BoundsCheckPolicies::default();
        let mut out = String::new();
        let writer = glsl::Writer::new(&mut out, &module, &info, &options, &pipeline, policies);
        writer.and_then(|mut w| w.write()).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}
