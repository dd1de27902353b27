//! User-defined rules: WGSL text, which is checked before anything runs, and a list of settings. The built-in rules do not use this module.

mod builtins;
mod check;
mod cpu;
mod fill;
mod header;
mod names;
mod scan;
mod spread;
mod tokens;
mod values;

pub use cpu::CustomCpu;
pub use fill::Settings;

use std::fmt;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use super::{Rule, Scalar, StateSpec, Sums};
use crate::gpu::layout::class::Class;
use crate::optim::rule::host::HostKernel;
use crate::optim::rule::sealed::Sealed;
use crate::optim::rule::settings::{Range, Value, refused, within_f32};
use crate::{Error, Result};
use fill::{Declared, Fill};
use header::Line;
use tokens::Mistake;

/// The tolerance of `verify` for a custom rule, in units of 2⁻²⁴: the bound of a rule that only adds and multiplies.
///
/// Each of + - × is off by up to one ulp, which is 2 units. The longest chain, a decayed gradient through a moment into the step, is 15
/// units over six numbers or more.
const TOLERANCE: f64 = 4.0;

/// A user-defined optimizer in WGSL. It is a [`Rule`] like the built-in ones, and all features of the engine work with it: groups, clips,
/// loss scale, accumulation, averages of the weights.
///
/// The text holds structs, functions and constants only:
///
/// ```wgsl
/// struct Hyper { … }      // f32 members: one group's numbers of one step
/// struct State { … }      // vec4<f32> members, kept from step to step; optional
/// fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32>   // the change of p
///
/// // only for rules that need sums over tensors: at most 8 sums, and on devices with no more than WebGPU's 16 KiB of workgroup
/// // memory at most 4 totals, 2 where gradients are clipped by norm or tested
/// const SUMS = 1u;
/// const TOTALS = 1u;
/// struct Decision { … }   // f32 members
/// fn contribute(h: Hyper, p: vec4<f32>, g: vec4<f32>, s: State) -> array<vec4<f32>, SUMS>
/// fn total(h: Hyper, sums: array<f32, SUMS>, elements: f32) -> array<vec3<f32>, TOTALS>   // coefficients of 1, c, c²; c: clip factor
/// fn refuse(totals: array<f32, TOTALS>) -> bool                                           // optional: skips the step
/// fn decide(h: Hyper, totals: array<f32, TOTALS>, own: array<f32, TOTALS>) -> Decision
/// ```
///
/// The value of a member of `Hyper` comes from [`call`](Self::call), [`count`](Self::count) or [`product`](Self::product); else from the
/// setting with the member's name; else the host computes it in f64:
///
/// | member | value |
/// |---|---|
/// | `step` | t, the step count, from 1 |
/// | `one_minus_S` | 1 - S, for a setting S |
/// | `bias_correctionN` | 1 - βᵗ, for a setting `betaN`; N is anything, or nothing |
/// | `inv_bias_correctionN` | 1 / (1 - βᵗ) |
/// | `sqrt_bias_correctionN` | √(1 - βᵗ) |
/// | `inv_sqrt_bias_correctionN` | 1 / √(1 - βᵗ) |
///
/// Leading `//!` lines of the text may declare the same as the methods, so that one file is a whole rule; other such lines are prose:
///
/// ```wgsl
/// //! setting lr = 1e-3 (0..)        a range as Rust writes it: 0.. or 0..1 or 0..=1; none: any number
/// //! initial v = 0.1                a state's first value, otherwise 0
/// //! sums after clip                the sums are not a polynomial in the clip factor
/// ```
///
/// The constructors report mistakes in the text at once, with line and column. [`Rule::check`], which
/// [`Builder::build`](crate::Builder::build) calls, reports mistakes of the methods. The process keeps each name once, until it ends.
///
/// ```
/// use wgpu_optim::optim::{CustomRule, Range};
/// use wgpu_optim::{Group, Optimizer, Rule};
/// # let gpu = pollster::block_on(wgpu_optim::tools::adapter::Selector::default().open())?;
///
/// let rule = CustomRule::from_wgsl("sign", "
///     struct Hyper { lr: f32 }
///     fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
///         return -h.lr * sign(g);
///     }")?
///     .setting("lr", 0.5, Range::NOT_NEGATIVE);
///
/// let mut builder = Optimizer::builder(rule);
/// let w = builder.tensor(Group::DEFAULT, "w", &[3]);
/// let mut optimizer = builder.build(&gpu.device, &gpu.queue)?;
/// optimizer.write_grad(w, &[3.0, 0.0, -7.0])?;
/// gpu.run(|encoder| optimizer.step(encoder))?;
/// assert_eq!(pollster::block_on(optimizer.read_param(w))?, [-0.5, 0.0, 0.5]);
/// # Ok::<(), wgpu_optim::Error>(())
/// ```
#[derive(Clone)]
pub struct CustomRule {
    name: &'static str,
    text: Arc<str>,
    /// The number of bytes of the text that the user wrote.
    written: usize,
    /// The members of `Hyper`, each with its place in the text.
    hyper: Vec<(&'static str, usize)>,
    fills: Vec<Fill>,
    /// The members that closures fill.
    given: Vec<(&'static str, Fill)>,
    states: Vec<StateSpec>,
    decision: Vec<&'static str>,
    sums: Sums,
    /// The inputs that `contribute` may read.
    read: Vec<&'static str>,
    settings: Vec<Declared>,
    form: Option<Arc<dyn CustomCpu>>,
    /// Whether the CPU form computes sums.
    whole: bool,
    /// The first mistake in the calls of the methods.
    problem: Option<String>,
}

impl Sealed for CustomRule {}

impl fmt::Debug for CustomRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, settings, states, sums, .. } = self;
        f.debug_struct("CustomRule")
            .field("name", name)
            .field("settings", settings)
            .field("states", states)
            .field("sums", sums)
            .finish_non_exhaustive()
    }
}

impl CustomRule {
    /// Checks a text and reads its structs. `name` consists of letters, digits, `_` and `-`, begins with a letter, and is not the name of a
    /// built-in optimizer.
    ///
    /// # Errors
    /// The text is longer than 256 KiB, nests too deep, does not compile, holds anything but structs, functions and constants, uses a
    /// name that begins with `wo_`, redefines a builtin, or declares a function with another signature than the harness calls. Or the text
    /// is too large for a compiler: with a copy of everything that each declaration names it has more than 131,072 words; a function has more
    /// than 8192 bytes of local variables, 65,536 with those of its calls, or computes more than 512 KiB of values; a type has more than
    /// 65,536 bytes or nests more than 15 deep; a name has more than 64 bytes; the size of an array is not a whole number or a constant that
    /// is one. The message begins with `NAME:LINE:COLUMN:` and shows the line.
    pub fn from_wgsl(name: &str, text: &str) -> Result<Self> {
        let name = names::intern(name).map_err(Error::Usage)?;
        if super::find(name).is_ok() {
            return Err(Error::Usage(format!("{name} is an optimizer of this crate: give the rule another name")));
        }
        let at = |mistake| located(name, text, mistake);
        let declared = check::check(text).map_err(at)?;
        let rule = Self::new(name, text.len(), declared).read_header(text).map_err(at)?;
        rule.check_harness()?;
        Ok(rule)
    }

    /// As [`from_wgsl`](Self::from_wgsl), from a file. The stem of the file's name is the rule's name.
    ///
    /// # Errors
    /// The file cannot be read or is not UTF-8; otherwise as `from_wgsl`.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let shown = path.display().to_string();
        let io = |source| Error::Io { path: shown.clone(), source };
        let mut bytes = Vec::new();
        // One byte more than allowed, so that a longer file is refused and not cut.
        let most = scan::MAX_TEXT as u64 + 1;
        std::fs::File::open(path).map_err(io)?.take(most).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() > scan::MAX_TEXT {
            let problem = format!("a rule's text has at most {} bytes, this file has more", scan::MAX_TEXT);
            return Err(Error::File { file: shown, problem });
        }
        let text = String::from_utf8(bytes);
        let text = text.map_err(|e| Error::File { file: shown.clone(), problem: format!("not UTF-8: {e}") })?;
        let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        Self::from_wgsl(&stem, &text)
    }

    fn new(name: &'static str, written: usize, declared: check::Declared) -> Self {
        let mut rule = Self {
            name,
            text: declared.text.into(),
            written,
            hyper: declared.hyper,
            fills: Vec::new(),
            given: Vec::new(),
            states: declared.states.into_iter().map(|name| StateSpec::zero(name, true)).collect(),
            decision: declared.decision,
            sums: declared.sums,
            read: Vec::new(),
            settings: Vec::new(),
            form: None,
            whole: false,
            problem: None,
        };
        if rule.states.is_empty() {
            // The host gives an empty `State` this member.
            rule.states.push(StateSpec::zero("none", false));
        }
        if rule.sums.sums > 0 {
            let kept = rule.states.iter().filter(|s| s.used).map(|s| s.name);
            rule.read = ["p", "g"].into_iter().chain(kept).collect();
        }
        rule.resolve();
        rule
    }

    fn read_header(mut self, text: &str) -> Result<Self, Mistake> {
        for (at, line) in header::lines(text)? {
            self = match line {
                Line::Setting { name, default, range } => self.setting(name, default, range),
                Line::Initial { state, value } => self.initial(state, value),
                Line::AfterClip => self.after_clip(),
            };
            if let Some(message) = self.problem {
                return Err(Mistake { at, message });
            }
        }
        Ok(self)
    }

    /// Compiles the text inside the harness, which finds the mistakes that the earlier checks missed.
    fn check_harness(&self) -> Result<()> {
        let class = Class::of(self, false, false);
        for stage in class.stages() {
            let module = naga::front::wgsl::parse_str(&class.text(stage)).map_err(|e| e.message().to_owned());
            let checked =
                module.and_then(|module| check::validate(&module).map(drop).map_err(|mistake| mistake.message));
            checked.map_err(|e| Error::Shader(format!("{}: does not fit the harness: {e}", self.name)))?;
        }
        Ok(())
    }

    /// Declares a setting with its default and the numbers that it accepts.
    #[must_use]
    pub fn setting(mut self, name: &str, default: f64, range: Range) -> Self {
        match names::intern(name) {
            Err(problem) => self.note(problem),
            Ok(name) if self.settings.iter().any(|s| s.name == name) => {
                self.note(format!("the setting `{name}` is declared twice"));
            }
            Ok(name) => self.settings.push(Declared { name, value: default, range }),
        }
        self.resolve();
        self
    }

    /// A state's value before the first step. Default 0.
    #[must_use]
    pub fn initial(mut self, state: &str, value: f64) -> Self {
        let fits = (value as f32).is_finite();
        match self.states.iter_mut().find(|s| s.name == state && s.used) {
            Some(found) if fits => found.initial = value,
            Some(_) => {
                let needs = within_f32(value, "a finite number".into());
                self.note(format!("the first value of {state} is {}, needs {needs}", Value::Number(value)));
            }
            None => {
                let state: String = state.chars().take(names::MAX_NAME).flat_map(char::escape_debug).collect();
                self.note(format!("`{state}` is not a member of State"));
            }
        }
        self
    }

    /// Declares that the sums are not a polynomial in the clip factor: with a clip by norm, a second round computes the sums from the
    /// clipped gradient.
    #[must_use]
    pub fn after_clip(mut self) -> Self {
        self.sums.after_clip = self.sums.sums > 0;
        self
    }

    /// Fills a member of `Hyper` from the settings, which may change at every call.
    #[must_use]
    pub fn call(self, member: &str, value: impl Fn(&Settings<'_>) -> f64 + Send + Sync + 'static) -> Self {
        self.give(member, Fill::Call(Arc::new(value)))
    }

    /// Fills a member of `Hyper` from the settings and the step count t, from 1. A setting that changes the next values may change only
    /// while every recorded step is finished. If f32 does not hold a value as a finite number, the call that records the step is an error.
    #[must_use]
    pub fn count(self, member: &str, value: impl Fn(&Settings<'_>, u64) -> f64 + Send + Sync + 'static) -> Self {
        self.give(member, Fill::Count(Arc::new(value)))
    }

    /// Fills a member of `Hyper` with a product: a factor that depends on the call, such as the rate, and a factor that depends on the count.
    #[must_use]
    pub fn product(
        self,
        member: &str,
        call: impl Fn(&Settings<'_>) -> f64 + Send + Sync + 'static,
        count: impl Fn(&Settings<'_>, u64) -> f64 + Send + Sync + 'static,
    ) -> Self {
        self.give(member, Fill::Both(Arc::new(call), Arc::new(count)))
    }

    /// Gives a rule without sums its form for the CPU: `(hyper, p, g, states) -> change`, with the members of `Hyper` and `State` in
    /// order. The form lets the rule run on [`cpu::Optimizer`](crate::cpu::Optimizer) and lets `verify` check the rule.
    #[must_use]
    pub fn cpu(mut self, update: impl Fn(&[f64], f64, f64, &mut [f64]) -> f64 + Send + Sync + 'static) -> Self {
        self.form = Some(Arc::new(cpu::Closure(update)));
        self.whole = self.sums.sums == 0;
        self
    }

    /// As [`cpu`](Self::cpu), also for rules with sums.
    #[must_use]
    pub fn cpu_form(mut self, form: impl CustomCpu + 'static) -> Self {
        self.form = Some(Arc::new(form));
        self.whole = true;
        self
    }

    fn give(mut self, member: &str, fill: Fill) -> Self {
        match self.hyper.iter().find(|(name, _)| *name == member) {
            None => {
                let member: String = member.chars().take(names::MAX_NAME).flat_map(char::escape_debug).collect();
                self.note(format!("`{member}` is not a member of Hyper"));
            }
            Some((name, _)) if self.given.iter().any(|(given, _)| given == name) => {
                self.note(format!("Hyper.{member} is filled twice"));
            }
            Some((name, _)) => self.given.push((name, fill)),
        }
        self.resolve();
        self
    }

    fn note(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }

    /// Finds the source of each member.
    fn resolve(&mut self) {
        let fill = |(member, _): &(&'static str, usize)| {
            let given = self.given.iter().find(|(name, _)| name == member).map(|(_, fill)| fill.clone());
            given.unwrap_or_else(|| Fill::of_name(member, &self.settings))
        };
        self.fills = self.hyper.iter().map(fill).collect();
    }

    fn form(&self) -> &dyn CustomCpu {
        self.form.as_deref().unwrap_or(&cpu::Missing)
    }

    fn fill(&self, settings: &Settings<'_>, t: u64) -> Vec<Scalar> {
        self.hyper.iter().zip(&self.fills).map(|((name, _), fill)| fill.scalar(name, settings, t)).collect()
    }

    fn check_fills(&self) -> Result<()> {
        if let Some(((member, at), _)) = self.hyper.iter().zip(&self.fills).find(|(_, f)| matches!(f, Fill::Missing)) {
            let known = Fill::known(&self.settings).join(", ");
            let message = format!(
                "Hyper.{member} is undefined: declare the setting in a line `//! setting {member} = NUMBER` at the start of the text, \
                 fill the member with a closure, or give it one of the known names: {known}"
            );
            return Err(located(self.name, &self.text[..self.written], Mistake { at: *at, message }));
        }
        // Each later step checks its scalars when it is recorded.
        for t in [1, 2] {
            let settings = Settings::new(&self.settings);
            let scalars = self.fill(&settings, t);
            if let Some(unknown) = settings.unknown() {
                let kind = format!("setting of {}", self.name);
                return Err(Error::unknown(kind, &unknown, self.settings.iter().map(|s| s.name)));
            }
            if let Some(bad) = scalars.iter().find(|s| !s.value().is_finite()) {
                return Err(Error::Usage(format!("{}: Hyper.{} is {} at step {t}", self.name, bad.name, bad.value())));
            }
        }
        Ok(())
    }
}

impl Rule for CustomRule {
    fn name(&self) -> &'static str {
        self.name
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        self.settings.iter().map(|s| (s.name, Value::Number(s.value))).collect()
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<()> {
        let Some(at) = self.settings.iter().position(|s| s.name == name) else {
            let kind = format!("setting of {}", self.name);
            return Err(Error::unknown(kind, name, self.settings.iter().map(|s| s.name)));
        };
        let Value::Number(number) = value else { return Err(refused(self.name, name, value, "a number".into())) };
        self.settings[at].value = *number;
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if let Some(problem) = &self.problem {
            return Err(Error::Usage(format!("{}: {problem}", self.name)));
        }
        if self.form.is_some() && !self.whole {
            let problem = "has sums: give its CPU form with cpu_form, not with cpu";
            return Err(Error::Usage(format!("{} {problem}", self.name)));
        }
        for setting in &self.settings {
            let refuse = |needs| refused(self.name, setting.name, &Value::Number(setting.value), needs);
            setting.range.check(setting.value).map_err(refuse)?;
        }
        self.check_fills()
    }

    fn text(&self) -> &str {
        &self.text
    }

    fn tolerance(&self) -> f64 {
        TOLERANCE
    }

    fn flags(&self) -> Vec<(&'static str, bool)> {
        Vec::new()
    }

    fn scalars(&self, t: u64) -> Vec<Scalar> {
        self.fill(&Settings::new(&self.settings), t)
    }

    fn states(&self) -> Vec<StateSpec> {
        self.states.clone()
    }

    fn sums(&self) -> Sums {
        self.sums
    }

    fn sums_read(&self) -> &[&'static str] {
        &self.read
    }

    fn decision(&self) -> &[&'static str] {
        &self.decision
    }

    fn has_cpu(&self) -> bool {
        self.form.is_some()
    }

    fn cpu_f32(&self) -> &dyn HostKernel<f32> {
        self
    }

    fn cpu_f64(&self) -> &dyn HostKernel<f64> {
        self
    }

    fn boxed(&self) -> Box<dyn Rule> {
        Box::new(self.clone())
    }
}

/// An error that points into the user's text.
fn located(name: &str, text: &str, mistake: Mistake) -> Error {
    // A place past the user's text lies in the declarations that the host adds. Then the text ended too early.
    let mut at = mistake.at.min(text.trim_end().len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let begin = before.rfind('\n').map_or(0, |i| i + 1);
    let column = text[begin..at].chars().count() + 1;
    let shown: String = text[begin..].lines().next().unwrap_or_default().chars().take(160).collect();
    let shown = shown.replace(char::is_control, " ");
    let mark = if column <= 160 { format!("\n    {}^", " ".repeat(column - 1)) } else { String::new() };
    Error::Shader(format!("{name}:{line}:{column}: {}\n    {shown}{mark}", mistake.message))
}
