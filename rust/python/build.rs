//! Points test and bench binaries at the libpython they were built against, and takes the docstrings from the stub of
//! the module: it is the one place where they are written.

#![expect(clippy::expect_used, clippy::panic, reason = "a build script that can't go on ends the build")]

use std::collections::HashSet;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

const STUB: &str = "../../python/goblins/_goblins.pyi";

fn main() {
    pyo3_build_config::add_libpython_rpath_link_args();
    pyo3_build_config::use_pyo3_cfgs();
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={STUB}");
    let stub = fs::read_to_string(STUB).unwrap_or_else(|error| panic!("{STUB} can't be read: {error}"));
    let mut table = String::from("[\n");
    for Docstring { class, name, text } in docstrings(&stub) {
        writeln!(table, "    ({class:?}, {name:?}, {text:?}),").expect("a string takes all");
    }
    table.push_str("]\n");
    let out = env::var_os("OUT_DIR").expect("cargo says where to");
    fs::write(Path::new(&out).join("docstrings.rs"), table).expect("the folder of cargo can be written");
}

/// What a stub says of a class, or of a function: that is of no class, or of the one that is named.
struct Docstring {
    class: String,
    name: String,
    text: String,
}

/// The docstrings of a stub as ruff formats it. Of several overloads the first has it.
fn docstrings(stub: &str) -> Vec<Docstring> {
    let mut found = Vec::new();
    let mut known = HashSet::new();
    let mut class = String::new();
    let mut lines = stub.lines().peekable();
    while let Some(line) = lines.next() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let Some((kind, rest)) = code.split_once(' ').filter(|(kind, _)| matches!(*kind, "class" | "def"))
        else {
            continue;
        };
        let name = rest.split(['(', ':']).next().unwrap_or_default();
        let mut head = without_comment(line).to_owned();
        while open_brackets(&head) > 0 {
            head.push_str(without_comment(lines.next().expect("a head that ends")));
        }
        let name = if kind == "class" {
            name.clone_into(&mut class);
            ""
        } else {
            if indent == 0 {
                class.clear();
            }
            name
        };
        let is_documented =
            head.ends_with(':') && lines.peek().is_some_and(|next| next.trim_start().starts_with("\"\"\""));
        if !is_documented {
            continue;
        }
        let mut text = lines.next().unwrap_or_default().trim_start()[3..].to_owned();
        while !text.contains("\"\"\"") {
            let line = lines.next().expect("a docstring that ends");
            text.push('\n');
            text.push_str(line.get(indent + 4..).unwrap_or_default());
        }
        text.truncate(text.find("\"\"\"").unwrap_or_default());
        let text = text.trim_end().to_owned();
        assert!(!text.contains(['\\', '\0']), "the docstring of {class} {name} needs no escapes");
        if known.insert((class.clone(), name.to_owned())) {
            found.push(Docstring { class: class.clone(), name: name.to_owned(), text });
        }
    }
    found
}

fn without_comment(line: &str) -> &str {
    line.split("  #").next().unwrap_or_default().trim_end()
}

fn open_brackets(code: &str) -> i32 {
    code.chars().map(|c| if "([".contains(c) { 1 } else { -i32::from(")]".contains(c)) }).sum()
}
