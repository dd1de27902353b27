// Where groups of several rules share a clip by global norm or a test for finite numbers: adds the squared norms and the counts of numbers
// that are not finite of all rules, and writes the sums into the totals of every rule. Runs between the totals and the decisions of a step.

@compute @workgroup_size(1)
fn wo_exchange() {
    var squared = 0.0;
    var bad = 0.0;
    for (var rule = 0u; rule < arrayLength(&wo_norms); rule++) {
        squared += wo_totals[wo_norms[rule]].z;
        bad += wo_totals[wo_norms[rule] + 1u].x;
    }
    for (var rule = 0u; rule < arrayLength(&wo_norms); rule++) {
        wo_totals[wo_norms[rule]].z = squared;
        wo_totals[wo_norms[rule] + 1u].x = bad;
    }
}
