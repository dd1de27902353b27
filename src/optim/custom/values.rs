//! The last check of a user's text: the memory and the values of its functions, as the compiler of a driver finds them, which puts a copy of a
//! function in the place of every call.

use naga::valid::{FunctionInfo, ModuleInfo};
use naga::{Block, Function, Handle, Module, Statement, TypeInner};

/// The bytes of local variables that WGSL promises to every function.
const MAX_LOCALS: u64 = 8192;
/// The most bytes of local variables of a function and of all functions that it calls.
const MAX_ALL_LOCALS: u64 = 64 * 1024;
/// The most bytes of all values that a function and the functions that it calls compute. Compilers keep an array as its single numbers.
const MAX_VALUES: u64 = 1 << 19;

#[derive(Clone, Copy, Default)]
struct Cost {
    locals: u64,
    values: u64,
}

/// Refuses a module with too large functions. Returns the name of the function and the problem.
pub(super) fn check(module: &Module, info: &ModuleInfo) -> Result<(), (String, String)> {
    // A function comes after the functions that it calls.
    let mut costs: Vec<Cost> = Vec::with_capacity(module.functions.len());
    for (handle, function) in module.functions.iter() {
        let own = own(module, function, &info[handle]);
        let mut cost = own;
        calls(&function.body, &mut |callee| {
            let callee = costs.get(callee.index()).copied().unwrap_or_default();
            cost.locals = cost.locals.saturating_add(callee.locals);
            cost.values = cost.values.saturating_add(callee.values);
        });
        costs.push(cost);
        let name = function.name.clone().unwrap_or_default();
        let problem = if own.locals > MAX_LOCALS {
            format!("has {} bytes of local variables, WGSL promises {MAX_LOCALS}", own.locals)
        } else if cost.locals > MAX_ALL_LOCALS {
            let bytes = cost.locals;
            format!(
                "has {bytes} bytes of local variables with those of all its calls, at most {MAX_ALL_LOCALS} are allowed"
            )
        } else if cost.values > MAX_VALUES {
            let bytes = cost.values;
            format!("computes values of {bytes} bytes with those of all its calls, at most {MAX_VALUES} are allowed")
        } else {
            continue;
        };
        return Err((name.clone(), format!("`{name}` {problem}")));
    }
    Ok(())
}

/// The cost of a function without its calls.
fn own(module: &Module, function: &Function, info: &FunctionInfo) -> Cost {
    let size = |ty: &TypeInner| ty.try_size(module.to_ctx()).map_or(u64::MAX, u64::from);
    let sum = |total: u64, bytes| total.saturating_add(bytes);
    let locals = function.local_variables.iter().map(|(_, local)| size(&module.types[local.ty].inner)).fold(0, sum);
    let values = function.expressions.iter().map(|(handle, _)| size(info[handle].ty.inner_with(&module.types)));
    Cost { locals, values: values.fold(0, sum) }
}

/// Calls `each` with the function of every call.
fn calls(block: &Block, each: &mut impl FnMut(Handle<Function>)) {
    for statement in block {
        match statement {
            Statement::Call { function, .. } => each(*function),
            Statement::Block(block) => calls(block, each),
            Statement::If { accept, reject, .. } => [accept, reject].into_iter().for_each(|block| calls(block, each)),
            Statement::Switch { cases, .. } => cases.iter().for_each(|case| calls(&case.body, each)),
            Statement::Loop { body, continuing, .. } => {
                [body, continuing].into_iter().for_each(|block| calls(block, each));
            }
            _ => {}
        }
    }
}
