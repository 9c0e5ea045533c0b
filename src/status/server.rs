//! The listener of the status server, a task beside the record's path: a few connections at once, one request each,
//! a bounded head, a bounded time. It follows the configuration: another address is listened on when it is read again.
//! An address that is taken is warned of, and tried again.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use log::{debug, info, warn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::board::{Answer, Board};
use super::history;
use super::request::{self, Asked, Refusal};
use crate::config::Secret;
use crate::limits;
use crate::spool::position::Position;

/// Time for one connection, from its beginning to its end.
const TIME: Duration = Duration::from_secs(10);
/// Time that a peer gets to take what was answered.
const LINGER: Duration = Duration::from_secs(1);
/// How often an address that is taken is tried again.
const AGAIN: Duration = Duration::from_secs(60);
/// Wait after a connection could not be accepted: the reason, such as too many open files, does not pass at once.
const BREATH: Duration = Duration::from_secs(1);

/// Where to listen, and what has to be sent along.
type Place = (SocketAddr, Option<Secret>);

/// Serves what the board shows, until it is dropped.
pub async fn serve(board: Rc<Board>) {
    let mut door = Door { place: None, listener: None, again: None };
    let mut connections = JoinSet::new();
    let mut commits = None;
    let span = Duration::from_secs(history::SPAN);
    let mut turn = tokio::time::interval_at(Instant::now() + span, span);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let serving = door.place.is_some();
        tokio::select! {
            () = board.changed.notified() => {
                commits = None;
                if let Some(view) = board.view() {
                    let agent = &view.config.agent;
                    door.listen(agent.status_listen.map(|address| (address, agent.status_token.clone()))).await;
                    commits = door.place.is_some().then(|| view.commits());
                }
            }
            going = committed(&mut commits) => match going {
                true => if let Some(view) = board.view() { view.committed() },
                false => commits = None,
            },
            accepted = door.accept(), if connections.len() < limits::STATUS_CONNECTIONS => match accepted {
                Ok((stream, peer)) => {
                    let token = door.place.as_ref().and_then(|(_, token)| token.clone());
                    connections.spawn_local(connection(stream, peer, board.clone(), token));
                }
                Err(fault) => {
                    debug!("status: a connection could not be accepted: {fault}");
                    tokio::time::sleep(BREATH).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = turn.tick(), if serving => board.turn(),
            () = door.due() => door.open().await,
        }
    }
}

/// Whether there was another commit; `false`: there will be none. For ever, when there is nobody to tell.
async fn committed(commits: &mut Option<watch::Receiver<Position>>) -> bool {
    match commits {
        Some(commits) => commits.changed().await.is_ok(),
        None => std::future::pending().await,
    }
}

struct Door {
    place: Option<Place>,
    listener: Option<TcpListener>,
    /// When it is tried again.
    again: Option<Instant>,
}

impl Door {
    async fn listen(&mut self, place: Option<Place>) {
        let same =
            place.as_ref().map(|(address, _)| address) == self.place.as_ref().map(|(address, _)| address);
        self.place = place;
        if !same || self.listener.is_none() {
            self.listener = None;
            self.again = None;
            self.open().await;
        }
    }

    async fn open(&mut self) {
        let Some((address, _)) = &self.place else { return };
        let tried_before = self.again.take().is_some();
        match TcpListener::bind(address).await {
            Ok(listener) => {
                let address = listener.local_addr().unwrap_or(*address);
                info!("status page: http://{address}/");
                self.listener = Some(listener);
            }
            Err(fault) => {
                if !tried_before {
                    warn!(
                        "status_listen {address}: {}; collecting goes on without a status page, it is tried again every \
                         minute",
                        why(&fault)
                    );
                }
                self.again = Some(Instant::now() + AGAIN);
            }
        }
    }

    async fn due(&self) {
        match self.again {
            Some(moment) => tokio::time::sleep_until(moment).await,
            None => std::future::pending().await,
        }
    }

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match &self.listener {
            Some(listener) => listener.accept().await,
            None => std::future::pending().await,
        }
    }
}

fn why(fault: &io::Error) -> String {
    match fault.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there; stop it, or give this one another port".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        io::ErrorKind::PermissionDenied => "not allowed; ports below 1024 need a privilege".to_owned(),
        _ => fault.to_string(),
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, board: Rc<Board>, token: Option<Secret>) {
    match tokio::time::timeout(TIME, converse(stream, &board, token.as_ref())).await {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => debug!("status: {peer}: {fault}"),
        Err(_) => debug!("status: {peer}: too slow"),
    }
}

/// One request and its answer. Cancelling it closes the connection.
async fn converse(mut stream: TcpStream, board: &Board, token: Option<&Secret>) -> io::Result<()> {
    let mut head = vec![0; limits::STATUS_HEAD_BYTES];
    let mut len = 0;
    let asked = loop {
        match stream.read(&mut head[len..]).await? {
            0 => return Ok(()),
            n => len += n,
        }
        match request::read(&head[..len], token) {
            Asked::More if len == head.len() => break Asked::Refuse(Refusal::TooLong),
            Asked::More => {}
            asked => break asked,
        }
    };
    let without_body = matches!(asked, Asked::Page { head: true, .. });
    let Answer { status, content_type, headers, body } = board.answer(asked);
    let length = body.len();
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{headers}Cache-Control: \
         no-store\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
         Cross-Origin-Resource-Policy: same-origin\r\nConnection: close\r\n\r\n"
    );
    if !without_body {
        answer.push_str(&body);
    }
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // Closed with bytes unread, the connection would be reset and the answer with it.
    let rest = async { while stream.read(&mut head).await.is_ok_and(|n| n > 0) {} };
    let _ = tokio::time::timeout(LINGER, rest).await;
    Ok(())
}
