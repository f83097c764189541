//! A headless Chromium, spoken to by its debugging protocol.

use crate::free_address;
use anyhow::{Context, ensure};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

/// Whatever is waited for has come by then, or never will.
const WAIT_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// A browser with pages.
pub struct Browser {
    process: Child,
    address: String,
    _profile: TempDir,
}

/// One page of it.
pub struct Page {
    socket: WebSocketStream<TcpStream>,
    last_id: u64,
}

impl Browser {
    /// Starts one.
    ///
    /// # Errors
    /// Chromium is not installed, or does not come up.
    pub async fn start() -> anyhow::Result<Self> {
        let profile = tempfile::tempdir()?;
        let address = free_address()?;
        let (_, port) = address.rsplit_once(':').context("an address has a port")?;
        let process = Command::new("chromium")
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ])
            .args([
                "--no-first-run",
                "--disable-background-networking",
                "--disable-extensions",
            ])
            // Two pages are looked at at once, and neither is in the foreground.
            .args([
                "--disable-background-timer-throttling",
                "--disable-renderer-backgrounding",
            ])
            .arg(format!("--remote-debugging-port={port}"))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("chromium is missing; run `just setup`")?;
        let browser = Self {
            process,
            address,
            _profile: profile,
        };
        let deadline = Instant::now() + WAIT_MAX;
        while browser.ask("GET", "/json/version").await.is_err() {
            ensure!(Instant::now() < deadline, "chromium does not come up");
            tokio::time::sleep(POLL).await;
        }
        Ok(browser)
    }

    async fn ask(&self, method: &str, path: &str) -> anyhow::Result<Value> {
        let mut connection = crate::Connection::open(&self.address).await?;
        let answer = connection.request(method, path, &[], b"").await?;
        Ok(serde_json::from_slice(&answer.body)?)
    }

    /// Opens a page.
    ///
    /// # Errors
    /// The browser does not answer.
    pub async fn open(&self, url: &str) -> anyhow::Result<Page> {
        let target = self.ask("PUT", "/json/new?about:blank").await?;
        let debugger = target["webSocketDebuggerUrl"]
            .as_str()
            .context("a page has one")?;
        let stream = TcpStream::connect(&self.address).await?;
        let (socket, _) = client_async(debugger, stream).await?;
        let mut page = Page { socket, last_id: 0 };
        page.call("Page.navigate", json!({"url": url})).await?;
        Ok(page)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends its own processes; what it leaves behind would be a test's fault that nobody sees.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Page {
    async fn call(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.last_id += 1;
        let id = self.last_id;
        let call = json!({"id": id, "method": method, "params": params});
        self.socket.send(Message::text(call.to_string())).await?;
        loop {
            let message = timeout(WAIT_MAX, self.socket.next()).await?;
            let message = message.context("the page is gone")??;
            let Message::Text(text) = message else {
                continue;
            };
            let answer: Value = serde_json::from_str(&text)?;
            if answer["id"] == json!(id) {
                ensure!(answer["error"].is_null(), "{method}: {answer}");
                return Ok(answer["result"].clone());
            }
        }
    }

    /// The value of an expression; a promise is waited for.
    ///
    /// # Errors
    /// It throws.
    pub async fn value(&mut self, expression: &str) -> anyhow::Result<Value> {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", params).await?;
        ensure!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {answer}"
        );
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until an expression is true.
    ///
    /// # Errors
    /// It never is; the text has what `shows` gives then.
    pub async fn until(&mut self, expression: &str, shows: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + WAIT_MAX;
        // A page that is still loading has not what is asked for.
        while self.value(expression).await.ok() != Some(json!(true)) {
            if Instant::now() > deadline {
                let shown = self.value(shows).await;
                anyhow::bail!("never: {expression}; {shown:?}");
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Draws a line with the mouse.
    ///
    /// # Errors
    /// The page is gone.
    pub async fn draw(&mut self, points: &[(f64, f64)]) -> anyhow::Result<()> {
        for (at, (x, y)) in points.iter().enumerate() {
            let kind = match at {
                0 => "mousePressed",
                _ => "mouseMoved",
            };
            let params = json!({"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1});
            self.call("Input.dispatchMouseEvent", params).await?;
        }
        let (x, y) = points.last().context("a line has points")?;
        let params =
            json!({"type": "mouseReleased", "x": x, "y": y, "button": "left", "clickCount": 1});
        self.call("Input.dispatchMouseEvent", params).await?;
        Ok(())
    }
}
