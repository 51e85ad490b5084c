//! The newest samples of a run in a browser on the same machine.
//!
//! A few lines of HTTP on the loopback interface: a page, an endless MJPEG stream for it and for any
//! player (`ffplay http://127.0.0.1:8765/stream`), and the progress as JSON.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::report::page::both_sheets;
use crate::report::progress::short_time;
use crate::report::{Budget, Progress};
use crate::samples::Samples;
use crate::trainer::Trainer;

/// What drawing the samples may take of the run's time.
const SHARE: f64 = 0.02;
/// Requests at the same time; a stream is one of them.
const MOST_CONNECTIONS: usize = 16;
/// A browser's requests are far shorter.
const LONGEST_REQUEST: u64 = 8192;
/// Who says nothing for so long, or takes nothing, is gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// After this time the stream repeats its picture, which shows whether anybody is still there.
const REPEAT: Duration = Duration::from_secs(10);

const PAGE: &str = include_str!("preview.html");

/// Serves the newest samples until the process ends.
pub struct Preview {
    address: SocketAddr,
    latest: Arc<Latest>,
    budget: Budget,
}

#[derive(Default)]
struct Latest {
    shown: Mutex<Shown>,
    changed: Condvar,
    connections: AtomicUsize,
}

#[derive(Clone, Default)]
struct Shown {
    /// Counts pictures; 0 before the first.
    number: u64,
    jpeg: Arc<Vec<u8>>,
    status: String,
}

impl Preview {
    /// Listens on 127.0.0.1; port 0 takes any free one.
    ///
    /// # Errors
    /// A sentence, if the port is taken or not allowed.
    pub fn start(port: u16) -> Result<Self> {
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => listener,
            Err(error) if error.kind() == ErrorKind::AddrInUse => bail!(
                "another program uses port {port}; choose another for the preview: --preview={}",
                port.checked_add(1).unwrap_or(port - 1)
            ),
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("the preview cannot be served on port {port}; choose another: --preview=8765")
                });
            }
        };
        let address = listener.local_addr()?;
        let latest = Arc::new(Latest::default());
        let shared = Arc::clone(&latest);
        thread::Builder::new()
            .name("preview".to_owned())
            .spawn(move || accept(&listener, &shared))
            .context("cannot start a thread for the preview")?;
        Ok(Self {
            address,
            latest,
            budget: Budget::new(SHARE),
        })
    }

    /// Where it is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Draws and shows what `trainer` makes of the samples, if there is time for it.
    ///
    /// # Errors
    /// libtorch's, for instance out of memory.
    pub fn show(
        &mut self,
        trainer: &Trainer,
        samples: &Samples,
        progress: &Progress,
    ) -> Result<()> {
        if !self.budget.allows() {
            return Ok(());
        }
        let jpeg = self.budget.spend(|| both_sheets(trainer, samples))?;
        let left = progress
            .time_left()
            .map(|left| short_time(left.as_secs_f64()));
        let status = json!({
            "iteration": trainer.iteration,
            "iterations": trainer.config().max_iter,
            "left": left,
        });
        self.publish(jpeg, status.to_string());
        Ok(())
    }

    fn publish(&self, jpeg: Vec<u8>, status: String) {
        let mut shown = self.latest.lock();
        *shown = Shown {
            number: shown.number + 1,
            jpeg: Arc::new(jpeg),
            status,
        };
        drop(shown);
        self.latest.changed.notify_all();
    }
}

impl Latest {
    fn lock(&self) -> MutexGuard<'_, Shown> {
        // Nothing that can panic runs under the lock.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest picture, as soon as there is another than `number`, or after a while.
    fn newer_than(&self, number: u64) -> Shown {
        let shown = self.lock();
        let (shown, _) = self
            .changed
            .wait_timeout_while(shown, REPEAT, |shown| shown.number == number)
            .unwrap_or_else(PoisonError::into_inner);
        shown.clone()
    }
}

fn accept(listener: &TcpListener, latest: &Arc<Latest>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Too many open files, for instance; that passes.
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        let latest = Arc::clone(latest);
        // Whether a browser gets its answer is no concern of the training.
        let _ = thread::Builder::new()
            .name("preview-answer".to_owned())
            .spawn(move || {
                let others = latest.connections.fetch_add(1, Ordering::Relaxed);
                let _ = answer(&stream, &latest, others);
                latest.connections.fetch_sub(1, Ordering::Relaxed);
            });
    }
}

fn answer(mut stream: &TcpStream, latest: &Latest, others: usize) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some((path, host)) = request(stream)? else {
        return respond(stream, "400 Bad Request", "text/plain", b"not understood\n");
    };
    if others >= MOST_CONNECTIONS {
        return respond(
            stream,
            "503 Service Unavailable",
            "text/plain",
            b"too many readers\n",
        );
    }
    // A page of another site, whose name was made to mean this machine, must not look at the samples.
    if !["127.0.0.1", "localhost"].contains(&host.as_str()) {
        return respond(
            stream,
            "403 Forbidden",
            "text/plain",
            b"use http://127.0.0.1\n",
        );
    }
    match path.as_str() {
        "/" => respond(
            stream,
            "200 OK",
            "text/html; charset=utf-8",
            PAGE.as_bytes(),
        ),
        "/status" => {
            let status = latest.lock().status.clone();
            respond(stream, "200 OK", "application/json", status.as_bytes())
        }
        "/stream" => {
            stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=sample\r\n\
                  Cache-Control: no-store\r\nConnection: close\r\n\r\n--sample\r\n",
            )?;
            let mut number = 0;
            loop {
                let shown = latest.newer_than(number);
                if shown.number == 0 {
                    continue;
                }
                number = shown.number;
                let head = format!(
                    "Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
                    shown.jpeg.len()
                );
                // Browsers show a picture when they meet the line that ends it.
                let part = [head.as_bytes(), &shown.jpeg, b"\r\n--sample\r\n"].concat();
                stream.write_all(&part)?;
            }
        }
        _ => respond(
            stream,
            "404 Not Found",
            "text/plain",
            b"there is /, /stream and /status\n",
        ),
    }
}

/// Path and host of a GET request.
fn request(stream: &TcpStream) -> std::io::Result<Option<(String, String)>> {
    let mut lines = BufReader::new(stream.take(LONGEST_REQUEST)).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut words = first.split(' ');
    let (Some("GET"), Some(path)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let path = path.split('?').next().unwrap_or_default().to_owned();
    let mut host = String::new();
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("host")
        {
            let value = value.trim();
            host = value.split(':').next().unwrap_or_default().to_owned();
        }
    }
    Ok(Some((path, host)))
}

fn respond(mut stream: &TcpStream, status: &str, kind: &str, body: &[u8]) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(preview: &Preview, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(preview.address()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn get(preview: &Preview, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n");
        let mut text = String::new();
        ask(preview, &request).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn page_and_status_are_served() {
        let preview = Preview::start(0).unwrap();
        let page = get(&preview, "/");
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        assert!(page.contains("src=\"/stream\"") && page.ends_with("</html>\n"));
        preview.publish(vec![1], "{\"iteration\":7}".to_owned());
        assert!(get(&preview, "/status?x=1").ends_with("\r\n\r\n{\"iteration\":7}"));
        assert!(get(&preview, "/etc/passwd").starts_with("HTTP/1.1 404 "));
    }

    #[test]
    fn every_new_picture_goes_down_the_stream() {
        let preview = Preview::start(0).unwrap();
        let request = "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let mut streams = [ask(&preview, request), ask(&preview, request)];
        for (number, picture) in [(1, "first"), (2, "second")] {
            preview.publish(picture.as_bytes().to_vec(), String::new());
            for stream in &mut streams {
                stream
                    .set_read_timeout(Some(Duration::from_secs(60)))
                    .unwrap();
                let mut text = String::new();
                let end = format!("{picture}\r\n--sample\r\n");
                while !text.ends_with(&end) {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    text.push(char::from(byte[0]));
                }
                let length = format!("Content-Length: {}\r\n", picture.len());
                assert!(text.contains(&length), "{number}: {text}");
            }
        }
    }

    #[test]
    fn other_names_and_other_requests_are_refused() {
        let preview = Preview::start(0).unwrap();
        for (request, status) in [
            ("GET / HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n", "403"),
            ("GET / HTTP/1.1\r\n\r\n", "403"),
            ("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"),
            ("nonsense\r\n\r\n", "400"),
        ] {
            let mut text = String::new();
            ask(&preview, request).read_to_string(&mut text).unwrap();
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        }
    }

    #[test]
    fn a_port_in_use_is_refused_with_a_sentence() {
        let taken = Preview::start(0).unwrap();
        let port = taken.address().port();
        let sentence = Preview::start(port).err().unwrap().to_string();
        assert!(
            sentence.contains(&format!("uses port {port}")) && sentence.contains("--preview="),
            "{sentence}"
        );
    }
}
