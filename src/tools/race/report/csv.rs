//! The CSV file: one line per run.

use super::super::{Outcome, Race};

const HEAD: &str = "suite,heat,problem,entrant,optimizer,settings,treatment,storage,budget,seed,backend,lr,steps,gradients,losses,seconds,\
state_bytes_per_parameter,diverged,loss,validation,error,early_stopped_error,triggers,damping,sharpness\n";

pub(super) fn text(suite: &str, race: &Race) -> String {
    let lines = race.outcomes.iter().map(|outcome| line(suite, outcome));
    std::iter::once(HEAD.to_owned()).chain(lines).collect()
}

fn line(suite: &str, o: &Outcome) -> String {
    let number = |x: Option<f64>| x.map_or_else(String::new, |x| x.to_string());
    let (key, cost) = (&o.key, &o.cost);
    let fields = [
        suite.to_owned(),
        key.heat.clone(),
        key.problem.clone(),
        key.entrant.clone(),
        key.optimizer.clone(),
        key.settings.clone(),
        key.treatment.clone(),
        key.storage.clone(),
        key.budget.clone(),
        key.seed.to_string(),
        key.backend.clone(),
        number(o.lr),
        cost.steps.to_string(),
        cost.gradients.to_string(),
        cost.losses.to_string(),
        cost.seconds.to_string(),
        o.state_bytes.to_string(),
        o.diverged.to_string(),
        number(o.loss),
        number(o.validation),
        number(o.test),
        number(o.early),
        o.triggers.map_or_else(String::new, |n| n.to_string()),
        number(o.damping),
        number(o.sharpness),
    ];
    fields.map(quoted).join(",") + "\n"
}

/// A field, quoted as RFC 4180 requires.
fn quoted(field: String) -> String {
    if field.contains([',', '"', '\n']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}
