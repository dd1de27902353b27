//! Several runs at once, each on one thread, so that the seconds of a run do not depend on the others.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use crate::{Error, Result};

/// Runs every job on `threads` threads, and calls `ended` on this thread with each result when it arrives. After the first error no job
/// begins; the function returns when the running jobs have ended.
pub(super) fn all<J: Sync, O: Send>(
    jobs: &[J],
    threads: usize,
    run: impl Fn(&J) -> Result<O> + Sync,
    mut ended: impl FnMut(usize, O) -> Result<()>,
) -> Result<()> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (send, receive) = channel();
    let mut result = Ok(());
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, jobs.len().max(1)) {
            let (send, run, next, stop) = (send.clone(), &run, &next, &stop);
            scope.spawn(move || work(jobs, run, next, stop, &send));
        }
        drop(send);
        for (at, outcome) in receive {
            let taken = outcome.and_then(|outcome| ended(at, outcome));
            if result.is_ok() && taken.is_err() {
                stop.store(true, Ordering::Relaxed);
                result = taken;
            }
        }
    });
    result
}

fn work<J: Sync, O: Send>(
    jobs: &[J],
    run: &(impl Fn(&J) -> Result<O> + Sync),
    next: &AtomicUsize,
    stop: &AtomicBool,
    send: &Sender<(usize, Result<O>)>,
) {
    // A run would otherwise use all cores through rayon.
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let alone = alone.map_err(|error| error.to_string());
    while !stop.load(Ordering::Relaxed) {
        let at = next.fetch_add(1, Ordering::Relaxed);
        let Some(job) = jobs.get(at) else { return };
        let outcome = match &alone {
            Ok(pool) => pool.install(|| run(job)),
            Err(problem) => Err(Error::Usage(format!("no thread for a run: {problem}"))),
        };
        if outcome.is_err() {
            // Set here, because another job could begin before the receiver sees the error.
            stop.store(true, Ordering::Relaxed);
        }
        if send.send((at, outcome)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_runs_once_and_the_first_error_ends_it() {
        let jobs: Vec<usize> = (0..50).collect();
        let mut results = vec![0; 50];
        let doubled = |job: &usize| Ok(2 * job);
        all(&jobs, 3, doubled, |at, outcome| {
            results[at] += outcome;
            Ok(())
        })
        .expect("no job fails");
        assert!(results.iter().enumerate().all(|(at, result)| *result == 2 * at));
        let failing = |job: &usize| if *job == 7 { Err(Error::Usage("seven".to_owned())) } else { Ok(*job) };
        let mut most = 0;
        let error = all(&jobs, 1, failing, |at, _| {
            most = most.max(at);
            Ok(())
        });
        assert_eq!((error.expect_err("a job fails").to_string(), most), ("seven".to_owned(), 6));
        assert_eq!(all(&[] as &[usize], 2, doubled, |_, _| Ok(())).ok(), Some(()));
    }

    #[test]
    fn a_run_has_one_thread() {
        all(
            &[(); 4],
            2,
            |()| Ok(rayon::current_num_threads()),
            |_, threads| {
                assert_eq!(threads, 1);
                Ok(())
            },
        )
        .expect("no job fails");
    }
}
