//! The lines of `budget.txt`.

use crate::assembly::Made;

/// What a pipeline may cost at most on a family of GPUs.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) family: &'static str,
    pub(crate) optimizer: &'static str,
    /// `name=value`; `storage` is the storage, the others are settings of the optimizer.
    pub(crate) settings: Vec<(&'static str, &'static str)>,
    pub(crate) stage: &'static str,
    pub(crate) most: Made,
    line: &'static str,
}

impl Budget {
    /// Parses a line; `None` for comments, empty lines and the line of the driver.
    pub(crate) fn parse(line: &'static str) -> Option<Self> {
        let (pipeline, numbers) = line.split_once(':')?;
        if pipeline.starts_with('#') {
            return None;
        }
        let words: Vec<&str> = pipeline.split_whitespace().collect();
        let [family, optimizer, settings @ .., stage] = &words[..] else { panic!("a budget of no pipeline: {line}") };
        let settings = settings.iter().map(|setting| setting.split_once('=').unwrap()).collect();
        let words: Vec<&str> = numbers.split_whitespace().collect();
        let word = |name: &str| {
            let at = words.iter().position(|word| *word == name);
            words[at.unwrap_or_else(|| panic!("no {name} in: {line}")) + 1]
        };
        let number = |name: &str| word(name).parse().unwrap();
        let most = Made {
            registers: number("registers"),
            spills: number("spills"),
            loads: word("loads").to_owned(),
            late: number("late"),
            waits: number("waits"),
            rounds: number("rounds"),
            instructions: number("instructions"),
        };
        Some(Self { family, optimizer, settings, stage, most, line: pipeline })
    }

    /// What a pipeline has beyond its budget.
    pub(crate) fn exceeded_by(&self, made: &Made) -> Vec<String> {
        let most = &self.most;
        let numbers = [
            ("registers", made.registers, most.registers),
            ("spills", made.spills, most.spills),
            ("late", made.late, most.late),
            ("waits", made.waits, most.waits),
            ("rounds", made.rounds, most.rounds),
            ("instructions", made.instructions, most.instructions),
        ];
        let numbers = numbers.into_iter().filter(|(_, made, most)| made > most);
        let mut problems: Vec<String> =
            numbers.map(|(what, made, most)| format!("{what} {made}, budget {most}")).collect();
        if made.loads != most.loads {
            problems.push(format!("loads {}, budget {}", made.loads, most.loads));
        }
        problems.into_iter().map(|problem| format!("{}: {problem} (it has: {made})", self.line)).collect()
    }
}

/// The families of the budgets, each once.
pub(crate) fn families(budgets: &[Budget]) -> Vec<&'static str> {
    let mut families: Vec<&str> = budgets.iter().map(|budget| budget.family).collect();
    families.dedup();
    families
}
