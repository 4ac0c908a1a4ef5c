//! Threads for blocking tasks of plugins.
//!
//! They are separate from the threads for work of the proxy, such as content codings and name resolution, and each
//! plugin has its own: work that never ends occupies only the threads of its plugin. Threads are created on demand, and
//! end when they have been idle for a while.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::call::Visible;
use super::callee::PluginId;
use super::marks::Role;
use crate::telemetry::limit_repeats_of_this_thread;

/// The most threads of one plugin; further work waits.
const MAX_THREADS: usize = 16;
/// The most work of one plugin that may wait; what comes beyond is not done.
const MAX_WAITING: usize = 65_536;
/// How long a thread waits for more.
const IDLE: Duration = Duration::from_secs(10);

/// Something that blocks.
type Work = Box<dyn FnOnce() + Send>;

/// The pools, by plugin; kept for good.
static POOLS: Mutex<Vec<(PluginId, &'static Pool)>> = Mutex::new(Vec::new());

struct Pool {
    plugin: PluginId,
    queue: Mutex<Queue>,
    came: Condvar,
}

#[derive(Default)]
struct Queue {
    work: VecDeque<(Work, oneshot::Sender<()>)>,
    threads: usize,
    /// Of them, those that wait for work.
    idle: usize,
}

/// Runs `work` of `plugin` on a thread that may block. What is given back is ready when it has ended, and an error if
/// it will not be done, because too much waits already.
pub(super) fn run(plugin: PluginId, work: Work) -> oneshot::Receiver<()> {
    let (done, waits) = oneshot::channel();
    pool(plugin).put(work, done);
    waits
}

fn pool(plugin: PluginId) -> &'static Pool {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, pool)) = pools.iter().find(|(known, _)| *known == plugin) {
        return pool;
    }
    let pool: &Pool = Box::leak(Box::new(Pool {
        plugin,
        queue: Mutex::default(),
        came: Condvar::new(),
    }));
    pools.push((plugin, pool));
    pool
}

impl Pool {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&'static self, work: Work, done: oneshot::Sender<()>) {
        let mut queue = self.queue();
        if queue.work.len() >= MAX_WAITING {
            drop(queue);
            tracing::error!(
                plugin = self.plugin.name(),
                limit = MAX_WAITING,
                "the blocking-task queue of a plugin is full: discarding the task"
            );
            return;
        }
        queue.work.push_back((work, done));
        if queue.work.len() > queue.idle && queue.threads < MAX_THREADS {
            queue.threads += 1;
            drop(queue);
            self.add_thread();
        } else {
            drop(queue);
            self.came.notify_one();
        }
    }

    fn add_thread(&'static self) {
        let thread = thread::Builder::new().name("plugin-blocking".to_owned());
        if let Err(error) = thread.spawn(|| self.work()) {
            // The next work tries again; as long as there is another thread, this one is done as well.
            self.queue().threads -= 1;
            tracing::error!(
                plugin = self.plugin.name(),
                %error,
                "cannot start a thread for blocking tasks of a plugin"
            );
        }
    }

    /// What a thread does.
    fn work(&self) {
        // It is done for peers, as often as they ask.
        limit_repeats_of_this_thread();
        let _visible = Visible::new(Role::Background);
        while let Some((work, done)) = self.next() {
            work();
            // Whoever waited may have given up.
            let _ = done.send(());
        }
    }

    /// What is to be done; `None` when nothing has come for a while, and the thread no longer counts.
    fn next(&self) -> Option<(Work, oneshot::Sender<()>)> {
        let mut queue = self.queue();
        loop {
            if let Some(next) = queue.work.pop_front() {
                return Some(next);
            }
            queue.idle += 1;
            let waited = self.came.wait_timeout(queue, IDLE);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            queue.idle -= 1;
            if timeout.timed_out() && queue.work.is_empty() {
                queue.threads -= 1;
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Barrier};

    fn waits_for(gate: Arc<Barrier>) -> Work {
        Box::new(move || {
            gate.wait();
        })
    }

    #[test]
    fn stuck_work_of_one_plugin_keeps_no_other_one() {
        let (stuck, other) = (
            PluginId::of("libp.so", "Stuck"),
            PluginId::of("libp.so", "Other"),
        );
        let gate = Arc::new(Barrier::new(MAX_THREADS + 1));
        let jobs: Vec<_> = (0..MAX_THREADS * 2)
            .map(|_| {
                let gate = Arc::clone(&gate);
                run(stuck, waits_for(gate))
            })
            .collect();
        run(other, Box::new(|| ())).blocking_recv().unwrap();
        assert_eq!(pool(stuck).queue().threads, MAX_THREADS);
        // Opens for the first half and then for the second.
        gate.wait();
        gate.wait();
        for job in jobs {
            job.blocking_recv().unwrap();
        }
    }

    #[test]
    fn threads_are_used_again() {
        let plugin = PluginId::of("libp.so", "Again");
        for _ in 0..50 {
            run(plugin, Box::new(|| ())).blocking_recv().unwrap();
        }
        assert!(pool(plugin).queue().threads < MAX_THREADS);
    }

    #[test]
    fn what_finds_the_line_full_is_not_done() {
        let plugin = PluginId::of("libp.so", "Full");
        let gate = Arc::new(Barrier::new(MAX_THREADS + 1));
        for _ in 0..MAX_THREADS {
            let gate = Arc::clone(&gate);
            drop(run(plugin, waits_for(gate)));
        }
        while !pool(plugin).queue().work.is_empty() {
            thread::yield_now();
        }
        let fill = || run(plugin, Box::new(|| ()));
        while pool(plugin).queue().work.len() < MAX_WAITING {
            drop(fill());
        }
        assert!(fill().blocking_recv().is_err());
        gate.wait();
    }
}
