//! A bus for tests of what goes wrong: it answers each call but Hello and AddMatch with the next thing of a list.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;

use super::message::{self, FIXED, kind};
use super::value::Value;

/// What the bus calls systemd.
const SYSTEMD: &str = ":1.1";

/// What a call is answered with.
pub(super) enum Answer {
    /// An empty answer.
    Nothing,
    /// The path of a job, and then signals that jobs are done, with their results.
    Job(&'static str, &'static [(&'static str, &'static str)]),
    /// The same with the signal first.
    EarlyJob(&'static str, &'static str),
    /// A job of which somebody else says that it failed, before it is done.
    ForgedJob(&'static str),
    /// A refusal: name and text.
    Error(&'static str, &'static str),
    /// Something that is no message.
    Bytes(&'static [u8]),
    /// Nothing, and an end.
    Close,
}

/// The bus, at a socket in a directory of its own.
pub(super) struct Fake {
    dir: tempfile::TempDir,
    thread: JoinHandle<Vec<String>>,
}

impl Fake {
    pub(super) fn new(answers: Vec<Answer>) -> Fake {
        Fake::start(move |stream| serve(stream, answers).unwrap_or_default())
    }

    /// One that lets nobody in.
    pub(super) fn refusing() -> Fake {
        Fake::start(|mut stream| {
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            stream.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
            vec![line]
        })
    }

    fn start(serve: impl FnOnce(UnixStream) -> Vec<String> + Send + 'static) -> Fake {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("bus")).unwrap();
        let thread = std::thread::spawn(move || serve(listener.accept().unwrap().0));
        Fake { dir, thread }
    }

    pub(super) fn address(&self) -> String {
        format!("unix:path=/no/such/socket;unix:path={}", self.dir.path().join("bus").display())
    }

    /// What was called, with the first text of its arguments. Ends when the client has gone.
    pub(super) fn calls(self) -> Vec<String> {
        self.thread.join().unwrap()
    }
}

fn serve(stream: UnixStream, answers: Vec<Answer>) -> std::io::Result<Vec<String>> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let mut line = String::new();
    for (wanted, answer) in
        [("\0AUTH EXTERNAL\r\n", "DATA\r\n"), ("DATA\r\n", "OK 0123456789abcdef\r\n"), ("BEGIN\r\n", "")]
    {
        line.clear();
        reader.read_line(&mut line)?;
        assert_eq!(line, wanted);
        stream.write_all(answer.as_bytes())?;
    }
    let mut answers = answers.into_iter();
    let mut calls = Vec::new();
    loop {
        let mut start = [0; FIXED];
        if reader.read_exact(&mut start).is_err() {
            return Ok(calls);
        }
        let mut bytes = start.to_vec();
        bytes.resize(message::length(&start).unwrap(), 0);
        reader.read_exact(&mut bytes[FIXED..])?;
        let message = message::parse(&bytes).unwrap();
        let serial = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
        let (name, argument) = (message.name.clone(), message.body.first().and_then(Value::text));
        let answer = |body: &[Value]| message::answer(SYSTEMD, kind::RETURN, serial, "", body);
        let says = |sender: &str, job: &str, result: &str| {
            let job = Value::Path(job.to_owned());
            message::answer(
                sender,
                kind::SIGNAL,
                0,
                "JobRemoved",
                &[Value::Uint32(1), job, "x.scope".into(), result.into()],
            )
        };
        let done = |job: &str, result: &str| says(SYSTEMD, job, result);
        let bytes = match name.as_str() {
            "Hello" => answer(&[":1.7".into()]),
            "AddMatch" => answer(&[]),
            _ => match answers.next().unwrap_or(Answer::Close) {
                Answer::Nothing => answer(&[]),
                Answer::Job(job, signals) => {
                    let signals = signals.iter().flat_map(|(job, result)| done(job, result));
                    answer(&[Value::Path(job.to_owned())]).into_iter().chain(signals).collect()
                }
                Answer::EarlyJob(job, result) => {
                    [done(job, result), answer(&[Value::Path(job.to_owned())])].concat()
                }
                Answer::ForgedJob(job) => {
                    let path = Value::Path(job.to_owned());
                    [
                        says(":1.99", job, "failed"),
                        answer(&[path]),
                        says(":1.99", job, "failed"),
                        done(job, "done"),
                    ]
                    .concat()
                }
                Answer::Error(name, text) => {
                    message::answer(SYSTEMD, kind::ERROR, serial, name, &[text.into()])
                }
                Answer::Bytes(bytes) => bytes.to_vec(),
                Answer::Close => return Ok(calls),
            },
        };
        calls.push(match argument {
            Some(argument) if !matches!(name.as_str(), "AddMatch") => format!("{name} {argument}"),
            _ => name,
        });
        // In pieces, as a socket may hand them out.
        for piece in bytes.chunks(7) {
            if stream.write_all(piece).is_err() {
                return Ok(calls);
            }
        }
    }
}
