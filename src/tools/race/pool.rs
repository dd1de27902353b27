//! Several runs at once, each on one thread, so that the seconds of a run do not depend on the others.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use crate::{Error, Result};

/// What a job sends: notes while it runs, then its result.
enum Message<N, O> {
    Note(N),
    Ended(Result<O>),
}

/// Runs every job on `threads` threads. Calls `noted` with what a job notes, and `ended` with its result, both on this thread and when
/// they arrive. After the first error no job begins; the function returns when the running jobs have ended.
pub(super) fn all<J: Sync, N: Send, O: Send>(
    jobs: &[J],
    threads: usize,
    run: impl Fn(&J, &mut dyn FnMut(N)) -> Result<O> + Sync,
    mut noted: impl FnMut(usize, N),
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
        for (at, message) in receive {
            let taken = match message {
                Message::Note(note) => {
                    noted(at, note);
                    continue;
                }
                Message::Ended(outcome) => outcome.and_then(|outcome| ended(at, outcome)),
            };
            if result.is_ok() && taken.is_err() {
                stop.store(true, Ordering::Relaxed);
                result = taken;
            }
        }
    });
    result
}

fn work<J: Sync, N: Send, O: Send>(
    jobs: &[J],
    run: &(impl Fn(&J, &mut dyn FnMut(N)) -> Result<O> + Sync),
    next: &AtomicUsize,
    stop: &AtomicBool,
    send: &Sender<(usize, Message<N, O>)>,
) {
    // A run would otherwise use all cores through rayon.
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let alone = alone.map_err(|error| error.to_string());
    while !stop.load(Ordering::Relaxed) {
        let at = next.fetch_add(1, Ordering::Relaxed);
        let Some(job) = jobs.get(at) else { return };
        let outcome = match &alone {
            // The send fails where the receiver is gone, and then nobody reads notes.
            Ok(pool) => pool.install(|| run(job, &mut |note| _ = send.send((at, Message::Note(note))))),
            Err(problem) => Err(Error::Usage(format!("no thread for a run: {problem}"))),
        };
        if outcome.is_err() {
            // Set here, because another job could begin before the receiver sees the error.
            stop.store(true, Ordering::Relaxed);
        }
        if send.send((at, Message::Ended(outcome))).is_err() {
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
        let mut notes = vec![0; 50];
        let doubled = |job: &usize, note: &mut dyn FnMut(usize)| {
            note(*job);
            Ok(2 * job)
        };
        all(
            &jobs,
            3,
            doubled,
            |at, note| notes[at] += note,
            |at, outcome| {
                results[at] += outcome;
                Ok(())
            },
        )
        .expect("no job fails");
        assert!(results.iter().enumerate().all(|(at, result)| *result == 2 * at));
        assert!(notes.iter().enumerate().all(|(at, note)| *note == at));
        let failing = |job: &usize, _: &mut dyn FnMut(())| {
            if *job == 7 { Err(Error::Usage("seven".to_owned())) } else { Ok(*job) }
        };
        let mut most = 0;
        let error = all(
            &jobs,
            1,
            failing,
            |_, ()| {},
            |at, _| {
                most = most.max(at);
                Ok(())
            },
        );
        assert_eq!((error.expect_err("a job fails").to_string(), most), ("seven".to_owned(), 6));
        assert_eq!(all(&[] as &[usize], 2, doubled, |_, _| {}, |_, _| Ok(())).ok(), Some(()));
    }

    #[test]
    fn a_run_has_one_thread() {
        all(
            &[(); 4],
            2,
            |(), _: &mut dyn FnMut(())| Ok(rayon::current_num_threads()),
            |_, ()| {},
            |_, threads| {
                assert_eq!(threads, 1);
                Ok(())
            },
        )
        .expect("no job fails");
    }
}
