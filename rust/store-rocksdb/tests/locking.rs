//! One owner at a time; who it is is said; a killed owner frees the store; bad paths are told.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use goblins_core::store::{Batch, Store, StoreError};
use goblins_store_rocksdb::RocksStore;

const FOLDER: &str = "GOBLINS_TEST_FOLDER";

/// Runs the test `name` of this binary in a process of its own, with the folder in its environment.
fn child(name: &str, folder: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(FOLDER, folder);
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

fn next_line(output: &mut BufReader<ChildStdout>, start: &str) -> Option<String> {
    loop {
        let mut line = String::new();
        if output.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        if let Some(at) = line.find(start) {
            return Some(line[at + start.len()..].trim().to_owned());
        }
    }
}

fn key(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn put(store: &RocksStore, number: u64) {
    let mut batch = Batch::new();
    batch.put(key(number), number.to_string().into_bytes());
    batch.put(key(u64::MAX), number.to_string().into_bytes());
    store.write(&batch).unwrap();
}

/// Not a test of its own: the process that the others start. It writes numbers until it is killed.
#[test]
fn writer_process() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let store = RocksStore::open(folder, true).unwrap();
    let last = store
        .get(&key(u64::MAX))
        .unwrap()
        .map_or(0, |last| String::from_utf8(last).unwrap().parse().unwrap());
    for number in last + 1.. {
        put(&store, number);
        store.sync().unwrap();
        println!("acknowledged:{number}");
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn a_second_open_names_this_process() {
    let folder = tempfile::tempdir().unwrap();
    let store = RocksStore::open(folder.path(), true).unwrap();
    match RocksStore::open(folder.path(), true) {
        Err(StoreError::Locked { pid, host, command, .. }) => {
            assert_eq!(pid, std::process::id());
            assert!(!host.is_empty());
            assert!(command.contains("locking"), "{command}");
        }
        other => panic!("expected Locked, got {other:?}"),
    }
    store.close().unwrap();
    RocksStore::open(folder.path(), true).unwrap();
}

#[test]
fn a_killed_owner_frees_the_store_and_left_a_prefix_with_all_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..10 {
        let (mut writer, mut output) = child("writer_process", folder.path());
        for _ in 0..=round * 7 {
            acknowledged = next_line(&mut output, "acknowledged:").unwrap().parse().unwrap();
        }
        match RocksStore::open(folder.path(), true) {
            Err(StoreError::Locked { pid, .. }) => assert_eq!(pid, writer.id()),
            other => panic!("expected Locked, got {other:?}"),
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        // What it still said before it died was acknowledged too.
        while let Some(number) = next_line(&mut output, "acknowledged:").filter(|number| !number.is_empty()) {
            acknowledged = number.parse().unwrap();
        }
        let store = RocksStore::open(folder.path(), true).unwrap();
        let last = store.get(&key(u64::MAX)).unwrap().unwrap();
        let last: u64 = String::from_utf8(last).unwrap().parse().unwrap();
        assert!(last == acknowledged || last == acknowledged + 1, "{last} after {acknowledged}");
        for number in 1..=last {
            assert!(store.get(&key(number)).unwrap().is_some(), "{number} is missing");
        }
        acknowledged = last;
    }
    assert!(acknowledged > 0);
}

fn refused(path: &Path) -> String {
    match RocksStore::open(path, true) {
        Err(error @ StoreError::Unusable { .. }) => error.to_string(),
        other => panic!("expected Unusable, got {other:?}"),
    }
}

#[test]
fn a_path_that_can_not_hold_a_store_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "text").unwrap();
    assert!(refused(&file).contains("it is a file"));
    assert!(refused(&file.join("below")).contains("can't make the folder"));
    assert!(refused(folder.path()).contains("other files (file)"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
    RocksStore::open(folder.path().join("new").join("deep"), true).unwrap();
}
