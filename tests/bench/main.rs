//! Side-by-side measurements: our program as `up` starts it, and each peer, on this machine, in alternating rounds of
//! one run. A figure is the median of five rounds. CPU is `utime + stime` of all processes of a server, so that it
//! does not matter who gets how much of the machine beside the load generator. Each row names its isolation mode.
//! All rows take about fifteen minutes on two cores.
//!
//! Each run adds its rows to `tests/bench/history.jsonl`, with the commit and the machine that they are of.
//!
//! `bench --before FILE` has an earlier build of the program as the only peer: what the data path costs now, and before.
//! `--checkout DIR` behind it names that build's checkout, where its guests are built: for a build with another WIT.
//! `bench --train FILE` measures nothing, see `train`.

mod allocations;
mod before;
mod client;
mod history;
mod latency;
mod load;
mod open_loop;
mod peers;
mod process;
mod report;
mod rows;
mod train;

use report::Report;
use std::path::Path;

fn main() -> anyhow::Result<()> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let folder = tempfile::tempdir()?;
    let mut report = Report::begin()?;
    match &names[..] {
        [flag, program, more @ ..] if flag == "--before" => {
            let (checkout, names) = match more {
                [flag, folder, names @ ..] if flag == "--checkout" => (Some(folder), names),
                names => (None, names),
            };
            let checkout = checkout.map(Path::new);
            before::run(
                Path::new(program),
                checkout,
                names,
                folder.path(),
                &mut report,
            )?;
        }
        [flag, program] if flag == "--train" => train::run(Path::new(program), folder.path())?,
        names => rows::run(names, folder.path(), &mut report)?,
    }
    report.end()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
