//! Trajectories that other implementations produced, on the GPU.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use wgpu_optim::Storage;
use wgpu_optim::optim::{ALL, find};
use wgpu_optim::tools::backend::Backend;
use wgpu_optim::tools::replay;
use wgpu_optim::tools::replay::trajectory::Trajectory;
use wgpu_optim::tools::verify::varied;

use crate::common::gpu;

/// Nobody else implements them; `parity::prox_sgd_leaves_exact_zeros`, `tests/cpu.rs` and `evaluate` stand in.
const ANALYTIC: &[&str] = &["prox_sgd", "warpadam"];

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect()
}

#[test]
fn every_trajectory_of_the_registry() {
    let mut seen = BTreeSet::new();
    for path in files() {
        let trajectory = Trajectory::load(&path).unwrap();
        if find(trajectory.optimizer()).is_err() {
            continue;
        }
        seen.insert(trajectory.optimizer().to_owned());
        let rule = replay::rule(&trajectory).unwrap();
        let on_gpu = Backend::Gpu(Box::new(gpu().clone()));
        let comparison = replay::run(&trajectory, rule.as_ref(), &on_gpu, None).unwrap();
        assert!(comparison.compared() > 100, "{}", trajectory.name());
        assert!(comparison.passed(), "{}: {:?}", trajectory.name(), comparison.worst());
        let other = replay::run(&trajectory, varied(rule.as_ref()).as_ref(), &on_gpu, None).unwrap();
        assert!(!other.passed(), "{} with other settings passes as well", trajectory.name());
    }
    for entry in ALL {
        assert!(seen.contains(entry.name) != ANALYTIC.contains(&entry.name), "{}", entry.name);
    }
}

/// What keeps parameters exact in half precision leads where f32 does.
#[test]
fn every_trajectory_with_parameters_in_half_precision_that_is_kept() {
    let on_gpu = Backend::Gpu(Box::new(gpu().clone()));
    for storage in ["params=bf16-split", "params=bf16-master", "params=f16-master"] {
        let storage: Storage = storage.parse().unwrap();
        let mut passed = 0;
        for path in files() {
            let trajectory = Trajectory::load(&path).unwrap();
            if find(trajectory.optimizer()).is_err() {
                continue;
            }
            let rule = replay::rule(&trajectory).unwrap();
            let Ok(comparison) = replay::run_stored(&trajectory, rule.as_ref(), &storage, &on_gpu, None) else {
                continue;
            };
            assert!(comparison.passed(), "{} in {storage}: {:?}", trajectory.name(), comparison.worst());
            passed += 1;
        }
        assert!(passed > 15, "{passed} in {storage}");
    }
}
