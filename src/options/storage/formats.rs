//! The formats that a storage gives the arrays of one tensor, or the reason why a rule does not work with the storage.

use super::{Format, Params, RoundingMode, StateFormat, Storage};
use crate::optim::procedure::refusal;
use crate::optim::procedure::spec::Feature;
use crate::optim::{Kind, Rule, StateSpec};
use crate::{Error, Result};

/// The formats of one tensor's arrays. The default is f32 throughout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Formats {
    pub(crate) params: Params,
    pub(crate) grads: Format,
    /// One format per state of the rule, in the rule's order; f32 where the settings do not use the state. Empty by default.
    pub(crate) states: Vec<StateFormat>,
}

impl Formats {
    /// The format of a state.
    pub(crate) fn state(&self, index: usize) -> StateFormat {
        self.states.get(index).copied().unwrap_or_default()
    }

    /// Whether every array is f32.
    #[cfg(feature = "tools")]
    pub(crate) fn is_plain(&self) -> bool {
        self.params == Params::F32 && self.grads == Format::F32 && self.states.iter().all(|f| *f == StateFormat::F32)
    }

    /// Whether any array uses stochastic rounding.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn round_stochastically(&self) -> bool {
        self.params.keep() == Some(RoundingMode::Stochastic) || self.states.contains(&StateFormat::Bf16Stochastic)
    }

    /// Refuses states outside f32 for a tensor with rows. Its rows move and share numbers one by one. Blocks do not allow this, and neither
    /// do random bits that depend on the place of a number.
    pub(crate) fn need_rows(&self, tensor: &str) -> Result<()> {
        if self.states.iter().all(|format| *format == StateFormat::F32) {
            return Ok(());
        }
        let problem = "its rows are stepped, moved or share numbers one by one, which needs its states stored in f32";
        Err(Error::Tensor { tensor: tensor.to_owned(), problem: problem.to_owned() })
    }
}

impl Storage {
    /// The formats of a tensor of `elements` elements under a rule.
    ///
    /// # Errors
    /// A format is for a state that the rule does not have or that must be exact; the format of the parameters is too coarse for the rule.
    pub(crate) fn formats(&self, rule: &dyn Rule, elements: u64) -> Result<Formats> {
        self.check_params(rule)?;
        let states = rule.states();
        self.check_named(rule.name(), &states)?;
        let states = states.iter().map(|state| self.state_format(state, elements)).collect();
        Ok(Formats { params: self.params, grads: self.grads, states })
    }

    fn check_params(&self, rule: &dyn Rule) -> Result<()> {
        let refuse = |why: &str| Err(Error::Usage(format!("storage `{self}`: {why}")));
        match self.params {
            Params::F32 => return Ok(()),
            Params::F16(RoundingMode::Split) => {
                return refuse(
                    "split is for bf16, which is the upper half of an f32; f16 is not: f16-master keeps an f32 beside it",
                );
            }
            Params::Bf16(_) | Params::F16(_) => {}
        }
        let name = rule.name();
        if let Some(reason) = refusal(&rule.procedure(), name, Feature::HalfParams) {
            return refuse(&reason);
        }
        if rule.evaluation().is_some() && !self.params.is_exact() {
            return refuse(&format!(
                "{name} moves parameters to where they are evaluated and back, which rounding would lose: use f32, bf16-split or a master"
            ));
        }
        Ok(())
    }

    fn check_named(&self, rule: &str, states: &[StateSpec]) -> Result<()> {
        for (name, format) in &self.named {
            let known = states.iter().map(|state| state.name);
            let state = states.iter().find(|state| state.name == name);
            let state = state.ok_or_else(|| Error::unknown(format!("state of {rule}"), name, known))?;
            if state.kind == Kind::Exact && *format != StateFormat::F32 {
                let problem = format!("storage `{self}`: the state `{name}` of {rule} must be exact and stays f32");
                return Err(Error::Usage(problem));
            }
        }
        Ok(())
    }

    fn state_format(&self, state: &StateSpec, elements: u64) -> StateFormat {
        let named = self.named.iter().find(|(name, _)| name == state.name);
        match named.map_or(self.states, |(_, format)| *format) {
            _ if !state.used || state.kind == Kind::Exact => StateFormat::F32,
            StateFormat::Blockwise8 if elements < self.min_blockwise => StateFormat::F32,
            format => format,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::{Adam, AdamW, AdamWScheduleFree, FlowAdam, Integrator, RmsProp, SAdam};

    fn formats(text: &str, rule: &dyn Rule, elements: u64) -> Result<Formats> {
        text.parse::<Storage>()?.formats(rule, elements)
    }

    #[test]
    fn every_state_gets_its_format() {
        use StateFormat::{Bf16Stochastic, Blockwise8, F32};
        let adam = Adam { amsgrad: true, ..Adam::default() };
        let mixed = formats("bf16-split,8bit,v=bf16-sr", &adam, 4096).unwrap();
        assert_eq!(mixed.params, Params::Bf16(RoundingMode::Split));
        assert_eq!(mixed.grads, Format::Bf16);
        assert_eq!(mixed.states, [Blockwise8, Bf16Stochastic, Blockwise8]);
        assert_eq!(formats("8bit", &adam, 4095).unwrap().states, [F32; 3], "a small tensor");
        assert_eq!(formats("m=8bit,min=7", &adam, 7).unwrap().states, [Blockwise8, F32, F32]);
        assert_eq!(
            formats("8bit,m=f32", &Adam::default(), 4096).unwrap().states,
            [F32, Blockwise8, F32],
            "v_max is unused"
        );
        let exact = formats("states=bf16,gap=f32", &AdamWScheduleFree::default(), 9).unwrap();
        assert_eq!(exact.states, [F32, StateFormat::Bf16]);
        let centered = RmsProp { centered: true, momentum: 0.9, ..RmsProp::default() };
        let names: Vec<_> = centered.states().iter().map(|s| s.name).collect();
        let kept = formats("8bit", &centered, 1 << 20).unwrap().states;
        assert_eq!(kept.iter().filter(|f| **f == Blockwise8).count(), 1, "{names:?}: only the momentum may be rounded");
    }

    #[test]
    fn an_error_names_the_storage_that_a_rule_cannot_use() {
        let schedule_free = AdamWScheduleFree::default();
        let staged = FlowAdam { integrator: Integrator::Rk4, ..FlowAdam::default() };
        let cases: [(&str, &dyn Rule, &[&str]); 7] = [
            ("w=8bit", &AdamW::default(), &["state of adamw", "`w`", "m, v"]),
            ("gap=8bit", &schedule_free, &["gap=8bit", "`gap` of adamw_schedule_free", "stays f32"]),
            ("bf16-sr", &schedule_free, &["bf16-sr", "bf16-split"]),
            ("f16-nearest", &schedule_free, &["f16-nearest", "master"]),
            ("bf16-split", &SAdam::default(), &["bf16-split", "sadam probes"]),
            ("f16-master", &staged, &["f16-master", "flowadam moves"]),
            ("bf16-master", &staged, &["use f32"]),
        ];
        for (text, rule, parts) in cases {
            let error = formats(text, rule, 4096).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
        }
        let split = Storage { params: Params::F16(RoundingMode::Split), ..Storage::default() };
        let error = split.formats(&AdamW::default(), 1).unwrap_err().to_string();
        assert!(error.contains("f16-master"), "{error}");
        for text in ["bf16-split,8bit", "bf16-master", "f16-master,grads=f32"] {
            formats(text, &schedule_free, 4096).unwrap();
        }
        let rounded = formats("states=bf16", &AdamW::default(), 9).unwrap();
        assert!(rounded.need_rows("splats").unwrap_err().to_string().contains("`splats`"));
        formats("bf16-sr", &AdamW::default(), 9).unwrap().need_rows("splats").unwrap();
    }
}
