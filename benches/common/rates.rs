//! How fast bytes go: through the pipes of a command, and in a table.

use std::{
    io::{Read, Write},
    process::{Command, Stdio},
    time::Instant,
};

/// As much as a pipe holds.
const PIECE: usize = 1 << 16;

/// MB/s.
pub fn rate(bytes: usize, begun: Instant) -> f64 {
    bytes as f64 / 1e6 / begun.elapsed().as_secs_f64()
}

/// Reads what a command prints, which must be so many bytes: MB/s from the first byte.
pub fn read_from(mut command: Command, bytes: usize) -> f64 {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut buffer = vec![0; PIECE];
    let mut had = stdout.read(&mut buffer).unwrap();
    let begun = Instant::now();
    loop {
        match stdout.read(&mut buffer).unwrap() {
            0 => break,
            n => had += n,
        }
    }
    let rate = rate(bytes, begun);
    assert_eq!(had, bytes);
    assert!(child.wait().unwrap().success());
    rate
}

/// Writes so many bytes to a command that prints a byte when it is ready, and another one when it has taken all: MB/s
/// from the one to the other.
pub fn write_to(mut command: Command, bytes: usize) -> f64 {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut said = [0];
    stdout.read_exact(&mut said).unwrap();
    let piece = vec![b'x'; PIECE];
    let begun = Instant::now();
    for at in (0..bytes).step_by(PIECE) {
        stdin.write_all(&piece[..PIECE.min(bytes - at)]).unwrap();
    }
    drop(stdin);
    stdout.read_exact(&mut said).unwrap();
    let rate = rate(bytes, begun);
    assert!(child.wait().unwrap().success());
    rate
}

/// Prints a table of rates, each side's by its name, and the ratio of the medians of the first two.
pub fn print_rates(sides: &mut [(&str, Vec<f64>)]) {
    println!("| | lowest | median | highest |\n|---|---|---|---|");
    let mut medians = Vec::new();
    for (name, rates) in sides {
        rates.sort_by(f64::total_cmp);
        let median = rates[rates.len() / 2];
        println!(
            "| {name} | {:.0} | {median:.0} | {:.0} |",
            rates[0],
            rates[rates.len() - 1]
        );
        medians.push(median);
    }
    println!("\nratio of the medians: {:.2}", medians[0] / medians[1]);
}
