//! Trajectories of other implementations, replayed on the GPU.

use std::collections::BTreeSet;

use wgpu_optim::Storage;
use wgpu_optim::tools::backend::Backend;
use wgpu_optim::tools::replay;
use wgpu_optim::tools::replay::trajectory::Trajectory;
use wgpu_optim::tools::verify::varied;

use crate::common::gpu;
use crate::support::stand_ins::{self, StandIn};
use crate::support::trajectories::files;

/// Rules without another implementation.
const STAND_INS: [StandIn; 2] = [
    StandIn { rule: "prox_sgd", source: include_str!("parity.rs"), tests: &["prox_sgd_leaves_exact_zeros"] },
    StandIn { rule: "warpadam", source: include_str!("evaluate.rs"), tests: &["warpadam_learns_the_oracles_matrix"] },
];

#[test]
fn every_trajectory_of_the_registry() {
    let mut seen = BTreeSet::new();
    for path in files() {
        let trajectory = Trajectory::load(&path).unwrap();
        seen.insert(trajectory.optimizer().to_owned());
        let rule = replay::rule(&trajectory).unwrap();
        let on_gpu = Backend::Gpu(Box::new(gpu().clone()));
        let comparison = replay::run(&trajectory, rule.as_ref(), &on_gpu, None).unwrap();
        assert!(comparison.compared() > 100, "{}", trajectory.name());
        assert!(comparison.passed(), "{}: {:?}", trajectory.name(), comparison.worst());
        let other = replay::run(&trajectory, varied(rule.as_ref()).as_ref(), &on_gpu, None).unwrap();
        assert!(!other.passed(), "{} with other settings passes as well", trajectory.name());
    }
    stand_ins::check(&seen, &STAND_INS);
}

/// The forms that keep parameters exact in half precision reach the result of f32.
#[test]
fn every_trajectory_with_parameters_in_half_precision_that_is_kept() {
    let on_gpu = Backend::Gpu(Box::new(gpu().clone()));
    for storage in ["params=bf16-split", "params=bf16-master", "params=f16-master"] {
        let storage: Storage = storage.parse().unwrap();
        let mut passed = 0;
        for path in files() {
            let trajectory = Trajectory::load(&path).unwrap();
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
