//! Tasks of a child that belong to no connection. None is detached: they end with the child.

use std::future::Future;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Tasks of a child that belong to no connection.
#[derive(Debug, Default)]
pub struct Background {
    tasks: TaskTracker,
    ended: CancellationToken,
}

impl Background {
    /// Starts a task. It is dropped where it waits when the child has drained.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        self.tasks.spawn(async move {
            ended.run_until_cancelled_owned(task).await;
        });
    }

    /// Ends all tasks, and returns when they are gone.
    pub(super) async fn end(&self) {
        self.ended.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::pending, sync::Arc};

    #[tokio::test]
    async fn the_end_drops_tasks_that_wait() {
        let background = Background::default();
        let held = Arc::new(());
        for _ in 0..2 {
            let held = Arc::clone(&held);
            background.spawn(async move {
                let _held = held;
                pending().await
            });
        }
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&held), 3);
        background.end().await;
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
