//! What the status server serves: the view of the agent that is at work, and what outlives it when the configuration
//! is read again. Lives on the runtime's one thread.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::sync::Notify;

use super::gather::{self, View};
use super::history::History;
use super::request::{Asked, Page, Refusal};
use super::snapshot::Snapshot;
use super::{html, json, metrics, text};

/// See the module's header.
pub struct Board {
    started: i64,
    view: RefCell<Option<Rc<View>>>,
    history: RefCell<History>,
    /// What stands still now, in words.
    stall: Box<dyn Fn() -> Option<String>>,
    /// Rung when the view is another one.
    pub(super) changed: Notify,
}

/// What is answered.
pub(super) struct Answer {
    pub(super) status: &'static str,
    pub(super) content_type: &'static str,
    /// Further headers, each with its line end.
    pub(super) headers: String,
    pub(super) body: String,
}

const PLAIN: &str = "text/plain; charset=utf-8";

impl Board {
    /// A board without an agent. `stall` tells what stands still.
    pub fn new(stall: impl Fn() -> Option<String> + 'static) -> Board {
        Board {
            started: gather::now(),
            view: RefCell::new(None),
            history: RefCell::default(),
            stall: Box::new(stall),
            changed: Notify::new(),
        }
    }

    /// Shows an agent, or that there is none: what it holds is then free.
    pub fn show(&self, view: Option<Rc<View>>) {
        if let Some(view) = &view {
            self.history.borrow_mut().adopt(&view.snapshot());
        }
        *self.view.borrow_mut() = view;
        self.changed.notify_one();
    }

    pub(super) fn view(&self) -> Option<Rc<View>> {
        self.view.borrow().clone()
    }

    /// Ends a span of the history.
    pub(super) fn turn(&self) {
        if let Some(view) = self.view() {
            self.history.borrow_mut().turn(&view.snapshot());
        }
    }

    /// Everything that is shown; `None` while there is no agent.
    pub fn snapshot(&self) -> Option<Snapshot> {
        let mut snapshot = self.view()?.snapshot();
        snapshot.started = self.started;
        snapshot.stalled.extend((self.stall)());
        self.history.borrow().fill(&mut snapshot);
        Some(snapshot)
    }

    pub(super) fn answer(&self, asked: Asked) -> Answer {
        let page = match asked {
            Asked::Page { page, .. } => page,
            Asked::Refuse(refusal) => return refused(refusal),
            Asked::More => return refused(Refusal::Malformed),
        };
        let Some(snapshot) = self.snapshot() else {
            let body = "the agent is starting\n".to_owned();
            return Answer {
                status: "503 Service Unavailable",
                content_type: PLAIN,
                headers: String::new(),
                body,
            };
        };
        let ok = |content_type, body| Answer { status: "200 OK", content_type, headers: String::new(), body };
        match page {
            Page::Html => Answer {
                headers: format!("Content-Security-Policy: {}\r\n", html::policy()),
                ..ok("text/html; charset=utf-8", html::page(&snapshot))
            },
            Page::Json => ok("application/json", json::document(&snapshot)),
            Page::Text => ok(PLAIN, text::page(&snapshot)),
            Page::Metrics => ok(metrics::CONTENT_TYPE, metrics::exposition(&snapshot)),
            Page::Health => match snapshot.faults() {
                faults if faults.is_empty() => ok(PLAIN, "healthy\n".to_owned()),
                faults => Answer {
                    status: "503 Service Unavailable",
                    ..ok(PLAIN, faults.iter().map(|fault| super::escape::line(fault) + "\n").collect())
                },
            },
        }
    }
}

fn refused(refusal: Refusal) -> Answer {
    let headers = match refusal {
        Refusal::Unauthorized => {
            "WWW-Authenticate: Bearer realm=\"trailspool\"\r\nWWW-Authenticate: Basic realm=\"trailspool\"\r\n"
        }
        Refusal::Method => "Allow: GET, HEAD\r\n",
        _ => "",
    };
    Answer {
        status: refusal.status(),
        content_type: PLAIN,
        headers: headers.to_owned(),
        body: refusal.text().to_owned(),
    }
}
