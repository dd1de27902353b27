//! Messages between ranks. Every exchange is made of messages from rank to rank, so that a rank that does not answer has a name.

use std::ffi::c_int;
use std::ops::{Deref as _, Range};
use std::time::{Duration, Instant};

use mpi::ffi;
use wgpu_optim::wgpu;

use crate::world::World;
use crate::{Error, Result};

/// Tests without success after which this rank sleeps between tests.
const EAGER: u32 = 200;
/// Time between two tests.
const NAP: Duration = Duration::from_micros(50);

/// Bytes that this rank sends.
pub(crate) enum Payload {
    Bytes(Vec<u8>),
    /// Mapped memory of a GPU buffer, which MPI reads without a copy.
    Mapped(wgpu::BufferView),
}

impl Payload {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Mapped(view) => view.deref(),
        }
    }
}

/// One message to or from a rank, as a range of the bytes that are sent or received.
pub(crate) type Message = (usize, Range<usize>);

struct Request {
    raw: ffi::MPI_Request,
    peer: usize,
    receives: bool,
}

/// An exchange that is under way. Dropping it before its end leaks its memory, which MPI may still use.
pub(crate) struct Pending {
    world: World,
    what: &'static str,
    requests: Vec<Request>,
    received: Vec<u8>,
    payload: Option<Payload>,
    started: Instant,
}

/// What came of an exchange.
pub(crate) struct Arrived {
    pub(crate) received: Vec<u8>,
    pub(crate) payload: Payload,
    /// The time from the start of the exchange to its end.
    pub(crate) in_flight: Duration,
    /// The part of this time in which the rank waited and did nothing else.
    pub(crate) blocked: Duration,
}

impl World {
    /// Starts an exchange. `received` gets the messages of `receive`. Empty messages are not sent: both sides know their lengths.
    pub(crate) fn exchange(
        &self,
        what: &'static str,
        payload: Payload,
        send: impl IntoIterator<Item = Message>,
        receive: impl IntoIterator<Item = Message>,
        mut received: Vec<u8>,
    ) -> Pending {
        let tag = self.next_tag();
        let mut requests = Vec::new();
        for (peer, range) in receive.into_iter().filter(|(_, range)| !range.is_empty()) {
            let into = &mut received[range];
            // SAFETY: `into` is valid for writes of its length, no two messages overlap, and `Pending` keeps the memory, without touching it,
            // until the request is complete, or leaks it.
            let raw = start(|raw| unsafe {
                ffi::MPI_Irecv(
                    into.as_mut_ptr().cast(),
                    into.len() as c_int,
                    ffi::RSMPI_UINT8_T,
                    peer as c_int,
                    tag,
                    ffi::RSMPI_COMM_WORLD,
                    raw,
                )
            });
            requests.push(Request { raw, peer, receives: true });
        }
        for (peer, range) in send.into_iter().filter(|(_, range)| !range.is_empty()) {
            let from = &payload.bytes()[range];
            // SAFETY: `from` is valid for reads of its length, and `Pending` keeps the payload unchanged until the request is complete, or
            // leaks it. The bytes of either kind of payload do not move with the payload.
            let raw = start(|raw| unsafe {
                ffi::MPI_Isend(
                    from.as_ptr().cast(),
                    from.len() as c_int,
                    ffi::RSMPI_UINT8_T,
                    peer as c_int,
                    tag,
                    ffi::RSMPI_COMM_WORLD,
                    raw,
                )
            });
            requests.push(Request { raw, peer, receives: false });
        }
        Pending { world: self.clone(), what, requests, received, payload: Some(payload), started: Instant::now() }
    }

    /// The bytes of every rank, in order. Every rank must call this.
    pub(crate) fn all_gather(&self, what: &'static str, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let lengths: Vec<usize> = self
            .all_gather_equal(what, &(own.len() as u64).to_le_bytes())?
            .iter()
            .map(|bytes| bytes.iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte)))
            .collect();
        self.gather_lengths(what, own, &lengths)
    }

    /// As [`all_gather`](Self::all_gather), where all ranks give the same count of bytes.
    pub(crate) fn all_gather_equal(&self, what: &'static str, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.gather_lengths(what, own, &vec![own.len(); self.size()])
    }

    fn gather_lengths(&self, what: &'static str, own: &[u8], lengths: &[usize]) -> Result<Vec<Vec<u8>>> {
        let ranges = ranges(lengths.iter().copied());
        let send = self.peers().map(|peer| (peer, 0..own.len()));
        let receive = self.peers().map(|peer| (peer, ranges[peer].clone()));
        let received = vec![0; ranges.last().map_or(0, |range| range.end)];
        let arrived = self.exchange(what, Payload::Bytes(own.to_vec()), send, receive, received).wait()?;
        let of = |rank: usize| {
            if rank == self.rank() { own.to_vec() } else { arrived.received[ranges[rank].clone()].to_vec() }
        };
        Ok((0..self.size()).map(of).collect())
    }
}

/// Ranges of these lengths, one after the other.
pub(crate) fn ranges(lengths: impl IntoIterator<Item = usize>) -> Vec<Range<usize>> {
    let mut end = 0;
    let mut range = |length| {
        end += length;
        end - length..end
    };
    lengths.into_iter().map(&mut range).collect()
}

/// Starts a request.
fn start(call: impl FnOnce(*mut ffi::MPI_Request) -> c_int) -> ffi::MPI_Request {
    // SAFETY: reading the constant of a foreign library, which never changes.
    let mut raw = unsafe { ffi::RSMPI_REQUEST_NULL };
    // MPI ends the process on an error of a call: its default handler stays in place.
    call(&raw mut raw);
    raw
}

impl Request {
    fn is_complete(&mut self) -> bool {
        let mut flag: c_int = 0;
        // SAFETY: `raw` is a request of this thread's MPI, or the null request after its completion, and MPI ignores the status.
        unsafe { ffi::MPI_Test(&raw mut self.raw, &raw mut flag, ffi::RSMPI_STATUS_IGNORE) };
        flag != 0
    }
}

impl Pending {
    /// Waits for all messages.
    ///
    /// # Errors
    /// Ranks do not answer within the timeout.
    pub(crate) fn wait(mut self) -> Result<Arrived> {
        let (waiting, timeout) = (Instant::now(), self.world.timeout());
        let mut tests = 0;
        loop {
            self.requests.retain_mut(|request| !request.is_complete());
            if self.requests.is_empty() {
                break;
            }
            if waiting.elapsed() > timeout {
                let error = self.lost(timeout);
                self.world.fail(&error);
                return Err(error);
            }
            tests += 1;
            if tests < EAGER {
                std::thread::yield_now();
            } else {
                std::thread::sleep(NAP);
            }
        }
        let payload = self.payload.take().unwrap_or_else(|| Payload::Bytes(Vec::new()));
        let (received, in_flight) = (std::mem::take(&mut self.received), self.started.elapsed());
        Ok(Arrived { received, payload, in_flight, blocked: waiting.elapsed() })
    }

    /// The error that names the ranks whose messages did not come, or, if all came, the ranks that take none.
    fn lost(&self, timeout: Duration) -> Error {
        let of = |receives: bool| -> Vec<usize> {
            let mut peers: Vec<usize> =
                self.requests.iter().filter(|r| r.receives == receives).map(|r| r.peer).collect();
            peers.sort_unstable();
            peers
        };
        let silent = of(true);
        let lost = if silent.is_empty() { of(false) } else { silent };
        Error::Lost { lost, what: self.what, seconds: timeout.as_secs_f64() }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.requests.is_empty() {
            std::mem::forget(std::mem::take(&mut self.received));
            std::mem::forget(self.payload.take());
        }
    }
}
