//! A client of the interface that Kubernetes' node agent speaks to container engines (CRI, gRPC): `cri.py`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::world::{World, ok};

/// Debian's python, for which Debian's gRPC is.
const PYTHON: &str = "/usr/bin/python3";

/// A connection. Calls go one after another; who wants some at once opens several.
pub struct Cri {
    client: Child,
    requests: Option<ChildStdin>,
    responses: BufReader<ChildStdout>,
}

impl Cri {
    /// Connects to the service at `socket`.
    pub fn connect(world: &World, socket: &Path) -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/client");
        let messages = world.path().join("cri-messages");
        std::fs::create_dir_all(&messages).expect("writable");
        ok(Command::new("protoc")
            .arg("--proto_path")
            .arg(&here)
            .arg("--python_out")
            .arg(&messages)
            .arg("cri.proto"));
        let mut command = Command::new(PYTHON);
        command.arg("-B").arg(here.join("cri.py")).arg(socket).env("PYTHONPATH", &messages);
        let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python");
        let requests = client.stdin.take();
        let responses = BufReader::new(client.stdout.take().expect("a pipe"));
        Self { client, requests, responses }
    }

    /// Calls `method` and gives its answer, both in protobuf's JSON form with the names of the `.proto` file.
    ///
    /// # Errors
    /// What the service says.
    pub fn call(&mut self, method: &str, request: Value) -> Result<Value, String> {
        let line = json!([method, request]).to_string() + "\n";
        self.requests.as_mut().expect("open").write_all(line.as_bytes()).expect("the client lives");
        let mut answer = String::new();
        self.responses.read_line(&mut answer).expect("the client lives");
        let mut answer: Value = serde_json::from_str(&answer).expect("JSON");
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["response"].take()),
        }
    }
}

impl Drop for Cri {
    fn drop(&mut self) {
        // It ends with its input.
        self.requests = None;
        let _ = self.client.wait();
    }
}
