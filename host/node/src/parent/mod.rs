//! The parent process: it holds what must outlive a child.
