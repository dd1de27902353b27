//! Moves buckets between the GPUs of the ranks: gradients to their mean, parameters to all ranks. While ranks exchange a bucket, the GPU copies
//! the next one to the host, and the host adds the one before.

use std::ops::Range;
use std::time::Duration;

use wgpu_optim::wgpu;

use crate::Result;
use crate::exchange::{Arrived, Payload, Pending, ranges};
use crate::mean::{Wire, mean};
use crate::pieces::{Bucket, Piece, Route, Run};
use crate::staging::Staging;
use crate::world::World;

/// Bytes and times of the exchanges of one rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that this rank sent to other ranks.
    pub sent: u64,
    /// Bytes that this rank received from other ranks.
    pub received: u64,
    /// The sum over all exchanges of the time from start to end.
    pub in_flight: Duration,
    /// The part of this time in which the rank waited and did nothing else.
    pub blocked: Duration,
}

impl Traffic {
    /// The share of the time of exchanges in which the rank did other work: 0 without overlap, 1 where no exchange is waited for.
    #[must_use]
    pub fn overlap(&self) -> f64 {
        let (in_flight, blocked) = (self.in_flight.as_secs_f64(), self.blocked.as_secs_f64());
        if in_flight > 0.0 { 1.0 - blocked / in_flight } else { 0.0 }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.in_flight += other.in_flight;
        self.blocked += other.blocked;
    }
}

/// The messages and the memory of a rank.
#[derive(Debug)]
pub(crate) struct Courier {
    world: World,
    staging: Staging,
    wire: Wire,
    traffic: Traffic,
    /// Memory of earlier exchanges.
    spare: Vec<Vec<u8>>,
}

/// A bucket that ranks exchange.
struct Flight {
    bucket: usize,
    pending: Pending,
    /// The range of each rank's message in the bytes that arrive; that of this rank is empty.
    arriving: Vec<Range<usize>>,
}

impl Courier {
    pub(crate) fn new(
        world: &World,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        wire: Wire,
        routes: &[&Route],
    ) -> Self {
        let largest = routes.iter().map(|route| route.largest()).max().unwrap_or(0);
        let staging = Staging::new(device, queue, largest);
        Self { world: world.clone(), staging, wire, traffic: Traffic::default(), spare: Vec::new() }
    }

    /// Bytes of the buffers between host and GPU.
    pub(crate) fn staging_bytes(&self) -> u64 {
        self.staging.bytes()
    }

    /// The traffic since the last call.
    pub(crate) fn take_traffic(&mut self) -> Traffic {
        std::mem::take(&mut self.traffic)
    }

    /// Waits for the GPU.
    pub(crate) fn finish(&self) -> Result<()> {
        self.staging.finish()
    }

    /// Replaces the gradients by their mean over the ranks: those of the own shard, or, with `everywhere`, all.
    pub(crate) fn reduce(&mut self, route: &Route, everywhere: bool) -> Result<()> {
        let all = |bucket: &Bucket| -> Vec<Run> { bucket.pieces.iter().flat_map(|piece| piece.runs.clone()).collect() };
        let own = self.world.rank();
        self.pipeline(route, all, Self::send_pieces, |courier, bucket, flight, arrived| {
            let starts = ranges(bucket.pieces.iter().map(|piece| courier.wire.bytes_of(piece)));
            let sent = &arrived.payload.bytes()[starts[own].clone()];
            let part = |rank: usize| if rank == own { sent } else { &arrived.received[flight[rank].clone()] };
            let parts: Vec<&[u8]> = (0..bucket.pieces.len()).map(part).collect();
            let piece = &bucket.pieces[own];
            let mean = mean(courier.wire, piece, &parts);
            if everywhere {
                courier.hand_out(route, bucket, mean)
            } else {
                courier.staging.write(&mean, &route.buffers, piece.runs.iter())
            }
        })
    }

    /// Replaces the parameters of the other shards by those of their ranks.
    pub(crate) fn gather(&mut self, route: &Route) -> Result<()> {
        let own = self.world.rank();
        self.pipeline(
            route,
            |bucket: &Bucket| bucket.pieces[own].runs.clone(),
            |courier, bucket, view| {
                courier.send_own(bucket, view.map_or_else(|| Payload::Bytes(Vec::new()), Payload::Mapped))
            },
            |courier, bucket, _, arrived| {
                let others = bucket.pieces.iter().enumerate().filter(|(rank, _)| *rank != own);
                courier.staging.write(&arrived.received, &route.buffers, others.flat_map(|(_, piece)| &piece.runs))
            },
        )
    }

    /// Reads what `reads` names of each bucket, starts an exchange with `send`, and ends it with `land`.
    fn pipeline(
        &mut self,
        route: &Route,
        reads: impl Fn(&Bucket) -> Vec<Run>,
        send: impl Fn(&mut Self, &Bucket, Option<wgpu::BufferView>) -> (Pending, Vec<Range<usize>>),
        land: impl Fn(&mut Self, &Bucket, &[Range<usize>], &Arrived) -> Result<()>,
    ) -> Result<()> {
        let runs: Vec<Vec<Run>> = route.buckets.iter().map(reads).collect();
        let mut flight: Option<Flight> = None;
        let mut read = 0;
        for (turn, bucket) in route.buckets.iter().enumerate() {
            while read < runs.len().min(turn + 2) {
                self.staging.read(read, &route.buffers, runs[read].iter());
                read += 1;
            }
            let bytes: u64 = runs[turn].iter().map(|run| run.bytes).sum();
            let view = if bytes > 0 { Some(self.staging.wait(turn, bytes as usize)?) } else { None };
            let (pending, arriving) = send(self, bucket, view);
            if let Some(before) = flight.replace(Flight { bucket: turn, pending, arriving }) {
                self.land(route, &runs, before, &land)?;
            }
        }
        flight.map_or(Ok(()), |last| self.land(route, &runs, last, &land))
    }

    /// Ends an exchange, and frees its memory.
    fn land(
        &mut self,
        route: &Route,
        runs: &[Vec<Run>],
        flight: Flight,
        land: &impl Fn(&mut Self, &Bucket, &[Range<usize>], &Arrived) -> Result<()>,
    ) -> Result<()> {
        let arrived = flight.pending.wait()?;
        self.traffic.in_flight += arrived.in_flight;
        self.traffic.blocked += arrived.blocked;
        land(self, &route.buckets[flight.bucket], &flight.arriving, &arrived)?;
        self.spare.push(arrived.received);
        match arrived.payload {
            Payload::Bytes(bytes) => self.spare.push(bytes),
            // A buffer with a view cannot be unmapped.
            Payload::Mapped(view) => drop(view),
        }
        if !runs[flight.bucket].is_empty() {
            self.staging.release(flight.bucket);
        }
        Ok(())
    }

    /// Sends to every rank its piece of the bucket, and receives the own piece from every rank.
    fn send_pieces(&mut self, bucket: &Bucket, view: Option<wgpu::BufferView>) -> (Pending, Vec<Range<usize>>) {
        let own = self.world.rank();
        let sizes: Vec<usize> = bucket.pieces.iter().map(|piece| self.wire.bytes_of(piece)).collect();
        let payload = match view {
            Some(view) if sizes.iter().sum::<usize>() == view.len() => Payload::Mapped(view),
            Some(view) => {
                let mut bytes = self.spare.pop().unwrap_or_default();
                bytes.clear();
                for (piece, range) in bucket.pieces.iter().zip(bucket.ranges()) {
                    self.wire.encode(piece, &view[range], &mut bytes);
                }
                Payload::Bytes(bytes)
            }
            None => Payload::Bytes(Vec::new()),
        };
        let leaving = ranges(sizes.iter().copied());
        let arriving = ranges((0..sizes.len()).map(|rank| if rank == own { 0 } else { sizes[own] }));
        (self.start("add gradients", payload, &leaving, &arriving), arriving)
    }

    /// Sends the own piece to every rank, and receives every other piece.
    fn send_own(&mut self, bucket: &Bucket, payload: Payload) -> (Pending, Vec<Range<usize>>) {
        let own = self.world.rank();
        let leaving = vec![0..payload.bytes().len(); bucket.pieces.len()];
        let piece = |(rank, piece): (usize, &Piece)| if rank == own { 0 } else { piece.bytes() };
        let arriving = ranges(bucket.pieces.iter().enumerate().map(piece));
        (self.start("hand out parameters", payload, &leaving, &arriving), arriving)
    }

    fn start(
        &mut self,
        what: &'static str,
        payload: Payload,
        leaving: &[Range<usize>],
        arriving: &[Range<usize>],
    ) -> Pending {
        let mut received = self.spare.pop().unwrap_or_default();
        received.resize(arriving.last().map_or(0, |range| range.end), 0);
        self.traffic.received += received.len() as u64;
        self.traffic.sent += self.world.peers().map(|peer| leaving[peer].len() as u64).sum::<u64>();
        let send = self.world.peers().map(|peer| (peer, leaving[peer].clone()));
        let receive = self.world.peers().map(|peer| (peer, arriving[peer].clone()));
        self.world.exchange(what, payload, send, receive, received)
    }

    /// Hands the mean of the own piece to every rank, and stores the means of all pieces.
    fn hand_out(&mut self, route: &Route, bucket: &Bucket, mean: Vec<u8>) -> Result<()> {
        let (pending, arriving) = self.send_own(bucket, Payload::Bytes(mean));
        let arrived = pending.wait()?;
        self.traffic.in_flight += arrived.in_flight;
        self.traffic.blocked += arrived.blocked;
        let own = self.world.rank();
        let mut all = Vec::with_capacity(bucket.bytes());
        for (rank, range) in arriving.into_iter().enumerate() {
            all.extend_from_slice(if rank == own { arrived.payload.bytes() } else { &arrived.received[range] });
        }
        self.staging.write(&all, &route.buffers, bucket.pieces.iter().flat_map(|piece| &piece.runs))
    }
}
