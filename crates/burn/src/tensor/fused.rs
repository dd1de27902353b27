//! The exchange with Burn under fusion: its tensors are names of results that may not be computed yet. One operation in Burn's stream takes
//! all of them, so a step waits for Burn's thread once and not once per tensor.

use std::mem;
use std::sync::{Arc, Mutex};

use burn::backend::ExecutionError;
use burn::backend::fusion::custom::{CustomOpIr, HandleContainer, Operation, OperationIr, StreamId, TensorIr};
use burn::backend::fusion::{FusionBackend, FusionRuntime};
use burn::backend::ir::BackendIr;
use burn::backend::wgpu::{CubeBackend, CubeTensor};

use crate::tensor::arena::{Arena, Home};
use crate::tensor::exchange::{Exchanged, Numbered, Settled, lock, settle};
use crate::tensor::primitive::{IntPrimitive, Primitive};

type Runtime = <CubeBackend as FusionBackend>::FusionRuntime;
type Handles = HandleContainer<<Runtime as FusionRuntime>::FusionHandle>;

/// Exchanges the tensors of a step.
///
/// # Errors
/// Burn could not compute a gradient or a parameter, or cannot submit its work.
pub(crate) fn exchange(
    arena: &Arc<Mutex<Arena>>,
    homes: &Arc<[Home]>,
    params: Vec<Numbered<Primitive>>,
    grads: Vec<Numbered<Primitive>>,
) -> Result<Exchanged, String> {
    let Some(client) = params.first().map(|param| param.tensor.client.clone()) else {
        return Ok(Exchanged { params: Vec::new(), moved: Vec::new(), grads: Vec::new(), left: None });
    };
    let name = |param: Numbered<Primitive>| Numbered { number: param.number, tensor: param.tensor.into_ir() };
    let params: Vec<Numbered<TensorIr>> = params.into_iter().map(name).collect();
    let grads: Vec<Numbered<TensorIr>> = grads.into_iter().map(name).collect();
    let out = |param: &Numbered<TensorIr>| {
        let home = &homes[param.number];
        TensorIr::uninit(client.create_empty_handle(), home.shape.clone(), home.dtype)
    };
    let outputs: Vec<TensorIr> = params.iter().map(out).collect();
    let inputs: Vec<TensorIr> = params.iter().chain(&grads).map(|input| input.tensor.clone()).collect();
    let ir = OperationIr::Custom(CustomOpIr::new("wgpu_optim_exchange", &inputs, &outputs));
    let asked = Asked { arena: arena.clone(), homes: homes.clone(), params, grads, outputs };
    let state = Arc::new(Mutex::new(State::Asked(asked)));
    let tensors = client.register(StreamId::current(), ir, Exchange(state.clone()));
    client.sync(|| ());
    let state = mem::replace(&mut *lock(&state), State::Running);
    match state {
        State::Done(settled, grads) => {
            let Settled { moved, left } = settled?;
            Ok(Exchanged { params: tensors, moved, grads, left })
        }
        // Burn runs no operation on a tensor that it could not compute.
        State::Asked(_) => {
            Err("Burn could not compute a gradient or a parameter: read them to see its error".to_owned())
        }
        State::Running => Err("Burn's thread stopped in the middle of a step".to_owned()),
    }
}

/// The allocation of one tensor.
///
/// # Errors
/// Burn could not compute it.
pub(crate) fn resolve(tensor: Primitive) -> Result<CubeTensor, String> {
    Ok(tensor.client.clone().resolve_tensor_float::<CubeBackend>(tensor))
}

/// The allocation of a tensor of integers.
pub(crate) fn resolve_int(tensor: IntPrimitive) -> CubeTensor {
    tensor.client.clone().resolve_tensor_int::<CubeBackend>(tensor)
}

/// The operation.
#[derive(Debug)]
struct Exchange(Arc<Mutex<State>>);

#[derive(Debug)]
enum State {
    Asked(Asked),
    Running,
    Done(Result<Settled, String>, Vec<Numbered<CubeTensor>>),
}

#[derive(Debug)]
struct Asked {
    arena: Arc<Mutex<Arena>>,
    homes: Arc<[Home]>,
    params: Vec<Numbered<TensorIr>>,
    grads: Vec<Numbered<TensorIr>>,
    outputs: Vec<TensorIr>,
}

impl Operation<Runtime> for Exchange {
    fn execute(&self, handles: &mut Handles) -> Result<(), ExecutionError> {
        let asked = mem::replace(&mut *lock(&self.0), State::Running);
        let State::Asked(asked) = asked else { return Ok(()) };
        let (settled, grads) = asked.run(handles);
        *lock(&self.0) = State::Done(settled, grads);
        Ok(())
    }
}

impl Asked {
    fn run(&self, handles: &mut Handles) -> (Result<Settled, String>, Vec<Numbered<CubeTensor>>) {
        let mut resolve = |input: &Numbered<TensorIr>| Numbered {
            number: input.number,
            tensor: handles.get_float_tensor::<CubeBackend>(&input.tensor),
        };
        let grads = self.grads.iter().map(&mut resolve).collect();
        let mut arena = lock(&self.arena);
        let settled = settle(&mut arena, &self.homes, self.params.iter().map(&mut resolve));
        for (param, output) in self.params.iter().zip(&self.outputs) {
            let view = CubeBackend::float_tensor_handle(arena.view(&self.homes[param.number]));
            handles.register_handle(output.id, view);
        }
        (settled, grads)
    }
}
