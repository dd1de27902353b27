//! Error scopes of wgpu. Natively wgpu knows the error of a scope as soon as the scope is popped; a browser answers later.

use std::task::{Context, Poll, Waker};

/// A future on the heap. In a browser nothing crosses threads.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) type Boxed<T> = futures::future::BoxFuture<'static, T>;
#[cfg(target_arch = "wasm32")]
pub(crate) type Boxed<T> = futures::future::LocalBoxFuture<'static, T>;

/// Whether the caller of a scope can wait for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// The caller takes the answer at once. In a browser its scopes stay closed: a scope whose answer nobody awaits would swallow the
    /// error, which reaches the device's `uncapturederror` event instead.
    Now,
    /// The caller awaits the answer.
    Later,
}

/// An open error scope.
pub(crate) struct Scope(Option<wgpu::ErrorScopeGuard>);

/// What a scope caught.
pub(crate) enum Answer {
    Known(Option<wgpu::Error>),
    Later(Boxed<Option<wgpu::Error>>),
}

impl Scope {
    pub(crate) fn open(device: &wgpu::Device, filter: wgpu::ErrorFilter, patience: Patience) -> Self {
        let opens = patience == Patience::Later || cfg!(not(target_arch = "wasm32"));
        Self(opens.then(|| device.push_error_scope(filter)))
    }

    /// Closes the scope. What follows this call is outside of it, whether or not the answer is awaited.
    pub(crate) fn close(self) -> Answer {
        let Some(guard) = self.0 else { return Answer::Known(None) };
        let mut popped: Boxed<_> = Box::pin(guard.pop());
        match popped.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(error) => Answer::Known(error),
            Poll::Pending => Answer::Later(popped),
        }
    }
}

impl Answer {
    /// The error of a scope with [`Patience::Now`].
    pub(crate) fn now(self) -> Option<wgpu::Error> {
        match self {
            Self::Known(error) => error,
            Self::Later(_) => None,
        }
    }

    pub(crate) async fn wait(self) -> Option<wgpu::Error> {
        match self {
            Self::Known(error) => error,
            Self::Later(popped) => popped.await,
        }
    }
}
