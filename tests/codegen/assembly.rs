//! What the assembly of a pipeline shows.

/// The costs of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    /// Vector registers of a thread.
    pub(crate) registers: u32,
    /// Spilled registers and bytes of scratch memory.
    pub(crate) spills: u32,
    /// The loads of data: their count and their bytes, the widest first.
    pub(crate) loads: String,
    /// Loads of data behind the first store.
    pub(crate) late: u32,
    /// Loads of data that are issued after a wait for earlier ones.
    pub(crate) waits: u32,
    /// Rounds of scalar loads before the first load of data, each of which waits for the one before.
    pub(crate) rounds: u32,
    /// Vector instructions in the text; those of a loop count once.
    pub(crate) instructions: u32,
}

impl std::fmt::Display for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { registers, spills, loads, late, waits, rounds, instructions } = self;
        write!(
            f,
            "registers {registers} spills {spills} loads {loads} late {late} waits {waits} rounds {rounds} instructions {instructions}"
        )
    }
}

/// A pipeline's assembly and the driver's statistics about it.
pub(crate) struct Compiled {
    pub(crate) assembly: String,
    pub(crate) statistics: Vec<(String, u64)>,
}

impl Compiled {
    fn statistic(&self, name: &str) -> u32 {
        let found = self.statistics.iter().find(|(known, _)| known == name);
        found.unwrap_or_else(|| panic!("no {name} in {:?}", self.statistics)).1.try_into().unwrap()
    }
}

/// The bytes that a load or a store of this name moves.
fn width(name: &str) -> u32 {
    let words = |word: &str| name.rsplit(word).next().and_then(|count| count.parse::<u32>().ok());
    if name.contains("dwordx") {
        return 4 * words("dwordx").unwrap();
    }
    match words("_b") {
        Some(bits) if name.contains("_b") => bits / 8,
        _ if name.ends_with("byte") || name.ends_with("u8") => 1,
        _ if name.ends_with("short") || name.ends_with("u16") => 2,
        _ => 4,
    }
}

fn starts(name: &str, all: &[&str]) -> bool {
    all.iter().any(|start| name.starts_with(start))
}

impl Made {
    pub(crate) fn of(compiled: &Compiled) -> Self {
        let mut made = Self {
            registers: compiled.statistic("VGPRs"),
            spills: ["Spilled VGPRs", "Spilled SGPRs", "Scratch size"]
                .map(|name| compiled.statistic(name))
                .iter()
                .sum(),
            loads: String::new(),
            late: 0,
            waits: 0,
            rounds: 0,
            instructions: 0,
        };
        let (mut widths, mut pending, mut waited, mut stored) = (Vec::new(), false, false, false);
        for line in compiled.assembly.lines() {
            let line = line.split(';').next().unwrap_or_default().trim();
            let Some(name) = line.split_whitespace().next().filter(|word| !word.ends_with(':')) else { continue };
            if starts(name, &["s_load", "s_buffer_load"]) {
                pending = true;
            } else if name.starts_with("s_waitcnt") {
                if line.contains("lgkmcnt") && pending && widths.is_empty() {
                    made.rounds += 1;
                    pending = false;
                }
                waited |= line.contains("vmcnt") && !widths.is_empty();
            } else if starts(name, &["buffer_load", "global_load"]) {
                made.waits += u32::from(std::mem::take(&mut waited));
                made.late += u32::from(stored);
                widths.push(width(name));
            } else if starts(name, &["buffer_store", "global_store"]) {
                stored |= !widths.is_empty();
            } else if name.starts_with("v_") {
                made.instructions += 1;
            }
        }
        made.loads = counted(widths);
        made
    }
}

/// Widths with their counts, such as `4x16+2x4`; `none` if there are none.
fn counted(mut widths: Vec<u32>) -> String {
    widths.sort_unstable_by(|a, b| b.cmp(a));
    let groups: Vec<String> =
        widths.chunk_by(|a, b| a == b).map(|group| format!("{}x{}", group.len(), group[0])).collect();
    if groups.is_empty() { "none".to_owned() } else { groups.join("+") }
}

#[test]
fn costs_are_read_from_assembly() {
    let assembly = "\
BB0:
	s_load_dwordx4 s[0:3], s[2:3], null          ; f4080401
	s_waitcnt lgkmcnt(0)                         ; bf8cc07f
	s_buffer_load_dword s1, s[0:3], null         ; f4200046
	s_waitcnt lgkmcnt(0)
	buffer_load_dwordx4 v[4:7], v2, s[0:3], 0 offen
	s_waitcnt vmcnt(0)
	global_load_dword v8, v[4:5], off
	v_add_f32_e32 v1, v4, v8
	buffer_store_dwordx4 v[4:7], v2, s[0:3], 0 offen
	buffer_load_b64 v[4:5], v2, s[0:3], 0 offen
";
    let names = ["VGPRs", "Spilled VGPRs", "Spilled SGPRs", "Scratch size"];
    let statistics = names.iter().zip([12, 1, 2, 4]).map(|(name, value)| ((*name).to_owned(), value)).collect();
    let made = Made::of(&Compiled { assembly: assembly.to_owned(), statistics });
    let line = "registers 12 spills 7 loads 1x16+1x8+1x4 late 1 waits 1 rounds 2 instructions 1";
    assert_eq!(made.to_string(), line);
}
