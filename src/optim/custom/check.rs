//! The second check of a user's text: naga's validation, and whether the harness can call the declared functions.

use std::collections::HashMap;

use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{
    ArraySize, Expression, Function, Handle, Literal, Module, Scalar, ScalarKind, Span, Type, TypeInner, VectorSize,
};

use super::names::intern;
use super::scan::{Declaration, scan};
use super::spread::MAX_LEVELS;
use super::tokens::Mistake;
use super::values;
use crate::gpu::layout::arena::is_taken;
use crate::optim::Sums;
use crate::optim::rule::MAX_SUMS;

/// The most members of `Hyper`, and of `State`.
const MAX_HYPER: usize = 64;
const MAX_STATES: usize = MAX_SUMS;
/// The most bytes of a type. A rule needs types for registers and constants, not for tables of data.
const MAX_TYPE: u32 = 64 * 1024;

/// The declarations of a text.
#[derive(Debug)]
pub(super) struct Declared {
    /// The text, followed by the declarations that the host adds.
    pub(super) text: String,
    /// The members of `Hyper` with their places in the text.
    pub(super) hyper: Vec<(&'static str, usize)>,
    pub(super) states: Vec<&'static str>,
    pub(super) decision: Vec<&'static str>,
    pub(super) sums: Sums,
}

/// Checks a text.
pub(super) fn check(text: &str) -> Result<Declared, Mistake> {
    let declarations = scan(text)?;
    let has = |name: &str| declarations.iter().any(|d| d.keyword == "struct" && d.name == name);
    let mut joined = format!("{text}\n");
    if !has("State") {
        joined += "struct State { none: vec4<f32> }\n";
    }
    let bare = joined.len();
    if !has("Decision") {
        joined += "struct Decision { none: f32 }\n";
    }
    let module = naga::front::wgsl::parse_str(&joined).map_err(|e| parse_mistake(&e))?;
    let reader = Reader { text, module: &module, declarations: &declarations };
    reader.check_types()?;
    let info = validate(&module)?;
    values::check(&module, &info).map_err(|(function, message)| reader.mistake(reader.place(&function), message))?;
    let hyper = reader.members("Hyper", MAX_HYPER, F32)?;
    let states = if has("State") { reader.members("State", MAX_STATES, VEC4)? } else { Vec::new() };
    if let Some((name, at)) = states.iter().find(|(name, _)| is_taken(name)) {
        return Err(reader.mistake(
            *at,
            format!("checkpoints use the name `{name}` for something else: give the state another name"),
        ));
    }
    let decision = if has("Decision") { reader.members("Decision", MAX_SUMS, F32)? } else { Vec::new() };
    let sums = reader.functions(!decision.is_empty())?;
    // The harness declares the empty decision itself.
    joined.truncate(if has("Decision") { joined.len() } else { bare });
    let names = |members: Vec<(&'static str, usize)>| members.into_iter().map(|(name, _)| name).collect();
    Ok(Declared { text: joined, hyper, states: names(states), decision: names(decision), sums })
}

fn parse_mistake(error: &naga::front::wgsl::ParseError) -> Mistake {
    let mut labels = error.labels();
    let first = labels.next();
    let at = first.and_then(|(span, _)| span.to_range()).map_or(usize::MAX, |range| range.start);
    let mut message = error.message().to_owned();
    if let Some((_, label)) = first.filter(|(_, label)| !label.is_empty()) {
        message = format!("{message} ({label})");
    }
    Mistake { at, message }
}

/// Runs naga's own checks, without any optional capability.
pub(super) fn validate(module: &Module) -> Result<ModuleInfo, Mistake> {
    let checked = Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(module);
    checked.map_err(|error| {
        // The last span is the innermost.
        let at = error.spans().filter_map(|(span, _)| span.to_range()).last().map_or(usize::MAX, |range| range.start);
        let mut message = error.as_inner().to_string();
        let mut cause = std::error::Error::source(error.as_inner());
        while let Some(inner) = cause {
            message = format!("{message}: {inner}");
            cause = inner.source();
        }
        Mistake { at, message }
    })
}

const F32: &str = "f32";
const VEC4: &str = "vec4<f32>";

struct Reader<'a> {
    text: &'a str,
    module: &'a Module,
    declarations: &'a [Declaration<'a>],
}

impl Reader<'_> {
    fn mistake(&self, at: usize, message: String) -> Mistake {
        Mistake { at, message }
    }

    /// The place where a name is declared; the end of the text for an undeclared name.
    fn place(&self, name: &str) -> usize {
        self.declarations.iter().find(|d| d.name == name).map_or(self.text.len(), |d| d.at)
    }

    fn check_types(&self) -> Result<(), Mistake> {
        // A type comes after the types that it holds.
        let mut levels: HashMap<Handle<Type>, usize> = HashMap::new();
        for (handle, ty) in self.module.types.iter() {
            let level = |inner| levels.get(&inner).copied().unwrap_or_default() + 1;
            let depth = match &ty.inner {
                TypeInner::Array { base, .. } => level(*base),
                TypeInner::Struct { members, .. } => members.iter().map(|member| level(member.ty)).max().unwrap_or(1),
                _ => 0,
            };
            levels.insert(handle, depth);
            let refuse = |problem| Err(self.mistake(start(self.module.types.get_span(handle)), problem));
            if depth > MAX_LEVELS {
                return refuse(format!(
                    "structs and arrays nest {depth} deep in this type, WGSL promises {MAX_LEVELS}"
                ));
            }
            if ty.inner.try_size(self.module.to_ctx()).is_none_or(|bytes| bytes > MAX_TYPE) {
                return refuse(format!("this type has more than {MAX_TYPE} bytes"));
            }
        }
        Ok(())
    }

    /// The members of a struct, all of one type.
    fn members(&self, name: &str, most: usize, needs: &str) -> Result<Vec<(&'static str, usize)>, Mistake> {
        let at = self.place(name);
        let found = self.module.types.iter().find(|(_, t)| t.name.as_deref() == Some(name));
        let Some(TypeInner::Struct { members, .. }) = found.map(|(_, t)| &t.inner) else {
            return Err(self.mistake(at, format!("`struct {name}` is missing")));
        };
        if members.len() > most {
            return Err(self.mistake(at, format!("{name} has {} members, at most {most} are allowed", members.len())));
        }
        let mut names = Vec::with_capacity(members.len());
        for member in members {
            let (member, ty) = (member.name.as_deref().unwrap_or_default(), self.describe(member.ty));
            let at = self.member_place(at, member);
            if ty != needs {
                return Err(self.mistake(at, format!("{name}.{member} is {ty}, needs {needs}")));
            }
            names.push((intern(member).map_err(|e| self.mistake(at, e))?, at));
        }
        Ok(names)
    }

    /// naga records no place for a member; the member's name first occurs, after the struct's name, at its declaration.
    fn member_place(&self, from: usize, member: &str) -> usize {
        let rest = self.text.get(from..).unwrap_or_default();
        let is_whole = |at: usize| {
            let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
            edge(rest[..at].chars().next_back()) && edge(rest[at + member.len()..].chars().next())
        };
        rest.match_indices(member).map(|(at, _)| at).find(|&at| is_whole(at)).map_or(from, |at| from + at)
    }

    /// Checks the signatures of the functions that the harness calls, and counts the sums that these functions compute.
    fn functions(&self, decides: bool) -> Result<Sums, Mistake> {
        self.signature("update", "fn(Hyper, Decision, vec4<f32>, vec4<f32>, ptr<function, State>) -> vec4<f32>")?;
        let parts = ["contribute", "total", "decide"];
        let Some(given) = parts.into_iter().chain(["refuse"]).find(|name| self.function(name).is_some()) else {
            if decides {
                let problem = "Decision needs `contribute`, `total` and `decide`, which are missing";
                return Err(self.mistake(self.place("Decision"), problem.to_owned()));
            }
            return Ok(Sums::default());
        };
        let missing = parts.into_iter().find(|name| self.function(name).is_none());
        if let Some(missing) = missing.or((!decides).then_some("struct Decision")) {
            return Err(self.mistake(self.place(given), format!("`{given}` also needs `{missing}`")));
        }
        let sums = self.count("contribute", "SUMS", VEC4)?;
        let totals = self.count("total", "TOTALS", "vec3<f32>")?;
        self.signature("contribute", &format!("fn(Hyper, vec4<f32>, vec4<f32>, State) -> array<vec4<f32>, {sums}>"))?;
        self.signature("total", &format!("fn(Hyper, array<f32, {sums}>, f32) -> array<vec3<f32>, {totals}>"))?;
        self.signature("decide", &format!("fn(Hyper, array<f32, {totals}>, array<f32, {totals}>) -> Decision"))?;
        let may_refuse = self.function("refuse").is_some();
        if may_refuse {
            self.signature("refuse", &format!("fn(array<f32, {totals}>) -> bool"))?;
        }
        Ok(Sums { sums, totals, may_refuse, ..Sums::NONE })
    }

    fn function(&self, name: &str) -> Option<&Function> {
        self.module.functions.iter().map(|(_, f)| f).find(|f| f.name.as_deref() == Some(name))
    }

    fn signature(&self, name: &str, needs: &str) -> Result<(), Mistake> {
        let at = self.place(name);
        let Some(function) = self.function(name) else {
            return Err(self.mistake(at, format!("`{name}` is missing, it must be {needs}")));
        };
        let arguments: Vec<String> = function.arguments.iter().map(|a| self.describe(a.ty)).collect();
        let result = function.result.as_ref().map_or("nothing".to_owned(), |r| self.describe(r.ty));
        let is = format!("fn({}) -> {result}", arguments.join(", "));
        if is == needs {
            return Ok(());
        }
        Err(self.mistake(at, format!("`{name}` is {is}, must be {needs}")))
    }

    /// The length of the array that a function returns, which a constant must name.
    fn count(&self, function: &str, constant: &str, item: &str) -> Result<usize, Mistake> {
        let at = self.place(function);
        let result = self.function(function).and_then(|f| f.result.as_ref());
        let length = match result.map(|r| &self.module.types[r.ty].inner) {
            Some(TypeInner::Array { size: ArraySize::Constant(n), .. }) => n.get() as usize,
            _ => {
                return Err(self.mistake(at, format!("`{function}` must return array<{item}, {constant}>")));
            }
        };
        if !self.declarations.iter().any(|d| d.keyword == "const" && d.name == constant) {
            return Err(self.mistake(at, format!("`const {constant} = {length}u;` is missing")));
        }
        let at = self.place(constant);
        if self.constant(constant).is_some_and(|value| value != length as i64) {
            return Err(self.mistake(at, format!("{constant} must be {length}, the count that `{function}` returns")));
        }
        if length > MAX_SUMS {
            return Err(self.mistake(at, format!("{constant} is {length}, at most {MAX_SUMS} are allowed")));
        }
        Ok(length)
    }

    /// The value of a constant, if naga stores it as a whole number.
    fn constant(&self, name: &str) -> Option<i64> {
        let (_, constant) = self.module.constants.iter().find(|(_, c)| c.name.as_deref() == Some(name))?;
        match self.module.global_expressions[constant.init] {
            Expression::Literal(Literal::U32(n)) => Some(n.into()),
            Expression::Literal(Literal::I32(n)) => Some(n.into()),
            Expression::Literal(Literal::AbstractInt(n)) => Some(n),
            _ => None,
        }
    }

    /// The WGSL name of a type, if it is one that the harness may require.
    fn describe(&self, ty: Handle<Type>) -> String {
        let ty = &self.module.types[ty];
        match &ty.inner {
            TypeInner::Struct { .. } => ty.name.clone().unwrap_or_default(),
            TypeInner::Scalar(scalar) => name_of(*scalar),
            TypeInner::Vector { size, scalar } => format!("vec{}<{}>", count_of(*size), name_of(*scalar)),
            TypeInner::Array { base, size: ArraySize::Constant(n), .. } => {
                format!("array<{}, {n}>", self.describe(*base))
            }
            TypeInner::Pointer { base, space: naga::AddressSpace::Function } => {
                format!("ptr<function, {}>", self.describe(*base))
            }
            _ => "another type".to_owned(),
        }
    }
}

fn start(span: Span) -> usize {
    span.to_range().map_or(usize::MAX, |range| range.start)
}

fn name_of(scalar: Scalar) -> String {
    let bits = scalar.width * 8;
    match scalar.kind {
        ScalarKind::Bool => "bool".to_owned(),
        ScalarKind::Float => format!("f{bits}"),
        ScalarKind::Sint => format!("i{bits}"),
        ScalarKind::Uint => format!("u{bits}"),
        ScalarKind::AbstractInt | ScalarKind::AbstractFloat => "a number".to_owned(),
    }
}

const fn count_of(size: VectorSize) -> u8 {
    size as u8
}
