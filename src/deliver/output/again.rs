//! A record that the receiver refused once and that somebody wants delivered after all (`quarantine retry`). It goes
//! alone, between two batches: it belongs to no place in the log any more. It leaves the quarantine when the cursor would
//! move over it: where nothing is acknowledged, once its connection has stood for a while.

use bytes::Bytes;
use tokio::time::Instant;

use super::{Loop, Stopped};
use crate::deliver::backlog::{Backlog, Wanted};
use crate::deliver::encoding::Record;
use crate::deliver::lines::Lines;
use crate::deliver::sender::{Again, Fate, Outcome, Reason, Sender};

impl<S: Sender + 'static, B: Backlog, P: Send + Sync> Loop<S, B, P> {
    /// Sends the next record that is wanted again, if one is. `true`: one was, and whatever became of it is settled or
    /// noted.
    pub(super) async fn deliver_again(&mut self) -> Result<bool, Stopped> {
        let Some(id) = self.wanted_again()? else { return Ok(false) };
        let name = id.clone();
        let line = self.blocking(move |work| {
            let Wanted { object, index, bytes } = work.backlog.refused(&name)?;
            let mut line = Vec::new();
            work.encoding.append(Record { object: &object, index, bytes: &bytes }, &mut line);
            Ok::<_, std::io::Error>(Bytes::from(line))
        });
        let line = match line.await? {
            Ok(line) => Lines::one(line),
            Err(error) => return self.leave(id, error.to_string()).await,
        };
        let refused = match self.send(line.clone()).await? {
            Outcome::Accepted => None,
            Outcome::TooLarge(text) | Outcome::Rejected(text) | Outcome::RejectedAt(_, text) => Some(text),
            Outcome::Retry { reason, text, after } if !self.unconfirmed.is_empty() => {
                // what the same connection carried before may be lost, too
                self.send_again(Again { reason, text, after }).await?;
                return Ok(true);
            }
            Outcome::Retry { reason, text, after } => {
                self.trouble(reason, text, after).await?;
                return Ok(true);
            }
            Outcome::Hold(text) => {
                self.trouble(Reason::Held, text, None).await?;
                return Ok(true);
            }
            Outcome::Items(items) => match (items.fates.first(), items.again) {
                (Some(Fate::Accepted), _) => None,
                (Some(Fate::Refused | Fate::Unfit), _) => {
                    Some(items.refusals.into_iter().next().map_or(String::new(), |(_, refusal)| refusal.text))
                }
                (_, Some(again)) => {
                    self.trouble(again.reason, again.text, again.after).await?;
                    return Ok(true);
                }
                (_, None) => {
                    self.trouble(Reason::Broken, "it did not answer".to_owned(), None).await?;
                    return Ok(true);
                }
            },
        };
        match refused {
            Some(text) => self.leave(id, format!("it is refused again: {text}")).await,
            None => {
                self.accepted(1, line.total(), line.get(0));
                if self.sender.is_provisional() {
                    let bytes = std::mem::take(&mut self.written);
                    self.unconfirmed.push_again(id, bytes, Instant::now().into_std());
                } else {
                    self.delivered_again(id).await?;
                }
                Ok(true)
            }
        }
    }

    /// The next record that is wanted again and not on its way, if there may be more on their way.
    pub(super) fn wanted_again(&mut self) -> Result<Option<String>, Stopped> {
        let unconfirmed = &self.unconfirmed;
        if !unconfirmed.has_room_for_again() {
            return Ok(None);
        }
        let work = self.work.as_mut().ok_or(Stopped)?;
        Ok(work.backlog.wanted_again(&|id| unconfirmed.has_again(id)))
    }

    /// The receiver has it: it leaves the quarantine.
    pub(super) async fn delivered_again(&mut self, id: String) -> Result<(), Stopped> {
        let name = id.clone();
        match self.blocking(move |work| work.backlog.accepted_again(&name)).await? {
            Ok(()) => {
                log::info!("{id} was delivered after all, and leaves the quarantine");
                Ok(())
            }
            Err(error) => {
                // The request is still there: it is sent once more, rather than not known to be delivered.
                let text = format!("cannot remove {id} from the quarantine: {error}");
                self.trouble(Reason::Storage, text, None).await
            }
        }
    }

    /// It stays in the quarantine.
    async fn leave(&mut self, id: String, why: String) -> Result<bool, Stopped> {
        log::warn!("{id} stays in the quarantine: {why}");
        if let Err(error) = self.blocking(move |work| work.backlog.left_again(&id)).await? {
            self.trouble(Reason::Storage, format!("cannot settle a request: {error}"), None).await?;
        }
        Ok(true)
    }
}
