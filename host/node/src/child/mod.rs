//! A child process: it answers requests.
