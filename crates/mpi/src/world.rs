//! The ranks of a run: the start of MPI, and the end of a run in which a rank failed.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::rc::Rc;
use std::time::Duration;

use mpi::environment::Universe;
use mpi::topology::Communicator as _;

use crate::{Error, Result};

/// The time after which a rank that does not answer is an error, unless [`World::set_timeout`] changes it.
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// The ranks of this run, one process each. A clone is another handle of the same ranks. MPI ends with the last handle.
///
/// **Failure.** A call that waits for other ranks returns [`Error::Lost`] if they do not answer within the [timeout](Self::set_timeout). After
/// such an error, or an error in the middle of work that ranks share, this rank cannot work with the others any more. When the last handle is
/// dropped, the process then prints the error and ends all ranks (`MPI_Abort`). A panic does the same. So no rank waits longer than the
/// timeout for a rank that failed.
#[derive(Clone)]
pub struct World(Rc<Inner>);

struct Inner {
    universe: Universe,
    rank: usize,
    size: usize,
    timeout: Cell<Duration>,
    tag: Cell<i32>,
    failure: RefCell<Option<String>>,
}

/// Tags below this bound are valid in every MPI.
const TAGS: i32 = 32_767;

impl World {
    /// Starts MPI. A program that `mpirun` did not start has one rank.
    ///
    /// # Errors
    /// MPI was started before in this process.
    pub fn start() -> Result<Self> {
        // wgpu's drivers have threads of their own, but only this thread calls MPI.
        let (universe, _) = mpi::initialize_with_threading(mpi::Threading::Funneled)
            .ok_or_else(|| Error::Usage("MPI was started before in this process: clone the first World".to_owned()))?;
        let world = universe.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        let inner =
            Inner { universe, rank, size, timeout: Cell::new(TIMEOUT), tag: Cell::new(0), failure: RefCell::default() };
        Ok(Self(Rc::new(inner)))
    }

    /// The number of this process, from 0.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.0.rank
    }

    /// The count of ranks.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// The ranks of other processes.
    pub(crate) fn peers(&self) -> impl Iterator<Item = usize> + use<> {
        let own = self.rank();
        (0..self.size()).filter(move |rank| *rank != own)
    }

    /// The time that this rank waits for another.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.0.timeout.get()
    }

    /// Sets the time that this rank waits for another. A rank may come later to a step than the others by the time that its work takes longer
    /// than theirs: choose more than that. Default [`TIMEOUT`].
    pub fn set_timeout(&self, timeout: Duration) {
        self.0.timeout.set(timeout);
    }

    /// A tag for the next exchange. All ranks make the same exchanges in the same order, so that they draw the same tags.
    pub(crate) fn next_tag(&self) -> i32 {
        let tag = self.0.tag.get();
        self.0.tag.set((tag + 1) % TAGS);
        tag
    }

    /// Notes that this rank cannot work with the others any more.
    pub(crate) fn fail(&self, error: &dyn Display) {
        self.0.failure.borrow_mut().get_or_insert_with(|| error.to_string());
    }

    /// Passes a result on. After an error in the middle of shared work, this rank cannot work with the others any more.
    pub(crate) fn shared<T>(&self, result: Result<T>) -> Result<T> {
        result.inspect_err(|error| self.fail(error))
    }

    /// Returns an error on every rank if any rank has one. Every rank must call this.
    ///
    /// # Errors
    /// The error of this rank, or the error of the first rank with one; a rank does not answer.
    pub fn agree<T, E: Into<Error>>(&self, result: Result<T, E>) -> Result<T> {
        let result = result.map_err(Into::into);
        let own = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let all = self.all_gather("agree", own.as_bytes())?;
        match all.iter().position(|problem| !problem.is_empty()) {
            None => result,
            Some(rank) if rank == self.rank() || result.is_err() => result,
            Some(rank) => Err(Error::Rank { rank, problem: String::from_utf8_lossy(&all[rank]).into_owned() }),
        }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rank {} of {}", self.rank(), self.size())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let failure = self.failure.take();
        if failure.is_none() && !std::thread::panicking() {
            return;
        }
        if let Some(failure) = failure {
            eprintln!("wgpu-optim-mpi: rank {} of {}: {failure}", self.rank, self.size);
        }
        // MPI's own end would wait for ranks that may never come.
        self.universe.world().abort(1);
    }
}
