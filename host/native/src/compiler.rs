//! The process that makes native code of one component: niced, and limited in memory and time, because what it reads
//! was written by somebody else.

use crate::program::this_program;
use protoplex_handler::BuildFault;
use protoplex_wire::release::Stage;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};
use tokio::process::Command;

/// Longest time to compile a component: a large JavaScript one takes six seconds.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(120);
/// Memory of the compiling process in bytes: a 22 MB Python component takes 370 MB.
pub const COMPILE_MEMORY_BYTES_MAX: u64 = 3 << 30;
/// Niceness of the compiling process: requests come first.
const COMPILE_NICE: i32 = 10;

/// Means to start the compiler's process.
pub(super) struct Compiler {
    /// Finds the program: it may be replaced on disk at any time.
    program: fn() -> io::Result<PathBuf>,
    timeout: Duration,
}

impl Default for Compiler {
    fn default() -> Self {
        Self {
            program: this_program,
            timeout: COMPILE_TIMEOUT,
        }
    }
}

/// Makes a fault of stage `compile`.
pub(super) fn fault(reason: String) -> BuildFault {
    BuildFault {
        stage: Stage::Compile,
        reason,
    }
}

/// The last line of a failed compiler's standard error.
#[derive(Debug, Serialize, Deserialize)]
struct CompilerFailure {
    stage: Stage,
    reason: String,
}

impl Compiler {
    /// Compiles one file into another.
    ///
    /// # Errors
    /// What the process said, what ended it, or that it took too long; it has ended then.
    pub(super) async fn run(&self, wasm: &Path, output: &Path) -> Result<(), BuildFault> {
        let program = (self.program)().map_err(|error| fault(error.to_string()))?;
        let mut command = Command::new(program);
        command
            .arg("compile")
            .arg("--input")
            .arg(wasm)
            .arg("--output")
            .arg(output);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let child = command
            .spawn()
            .map_err(|error| fault(format!("the compiler cannot be started: {error}")))?;
        let ended = tokio::time::timeout(self.timeout, child.wait_with_output()).await;
        let ended =
            ended.map_err(|_| fault(format!("compiling took longer than {:?}", self.timeout)))?;
        let ended = ended.map_err(|error| fault(error.to_string()))?;
        if ended.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&ended.stderr);
        let last = text
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("");
        Err(match serde_json::from_str::<CompilerFailure>(last) {
            Ok(failure) => BuildFault {
                stage: failure.stage,
                reason: failure.reason,
            },
            Err(_) => fault(format!("the compiler ended with {}: {last}", ended.status)),
        })
    }
}

/// The process behind `protoplex compile`: limits itself, then compiles one file.
pub fn compile_main(input: &Path, output: &Path, memory_bytes_max: u64) -> ExitCode {
    use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};
    // A compiler that cannot be limited still works; the parent's time-out stands.
    let _ = setpriority_process(None, COMPILE_NICE);
    let hard = getrlimit(Resource::Data).maximum;
    let _ = setrlimit(
        Resource::Data,
        Rlimit {
            current: Some(memory_bytes_max),
            maximum: hard,
        },
    );
    let compile = || {
        let wasm = fs::read(input).map_err(|error| fault(error.to_string()))?;
        let native = protoplex_handler::precompile(&wasm)?;
        fs::write(output, native).map_err(|error| fault(error.to_string()))
    };
    match compile() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let failure = CompilerFailure {
                stage: error.stage,
                reason: error.reason,
            };
            let line = serde_json::to_string(&failure).expect("a failure has string keys");
            // Standard error is how the parent learns why; a parent that is gone does not.
            let _ = writeln!(io::stderr(), "{line}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::fs::PermissionsExt, time::Instant};

    /// Makes a program that does not come to an end, as a compiler might on a component that was made for it. The
    /// program leaves its process id beside itself.
    fn endless() -> io::Result<PathBuf> {
        let folder = std::env::temp_dir().join(format!("protoplex-endless-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let file = folder.join("compiler");
        fs::write(&file, "#!/bin/sh\necho $$ > \"$0.pid\"\nexec sleep 3600\n")?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o700))?;
        Ok(file)
    }

    #[tokio::test]
    async fn a_compiler_that_does_not_come_to_an_end_is_ended() {
        // By then it has left its process id, even on a busy machine.
        let compiler = Compiler {
            program: endless,
            timeout: Duration::from_secs(3),
        };
        let none = Path::new("/dev/null");
        let refused = compiler.run(none, none).await.unwrap_err();
        assert_eq!(refused.stage, Stage::Compile);
        assert_eq!(refused.reason, "compiling took longer than 3s");
        let file = endless().unwrap();
        let pid = fs::read_to_string(file.with_extension("pid")).unwrap();
        let status = PathBuf::from(format!("/proc/{}/stat", pid.trim()));
        let deadline = Instant::now() + Duration::from_secs(10);
        // Gone, or killed and not yet reaped.
        while fs::read_to_string(&status).is_ok_and(|text| !text.contains(") Z ")) {
            assert!(Instant::now() < deadline, "it goes on");
            tokio::task::yield_now().await;
        }
        fs::remove_dir_all(file.parent().unwrap()).unwrap();
    }
}
