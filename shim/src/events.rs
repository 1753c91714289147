//! Events for containerd, in the order in which they happened: /tasks/create, start, exit, delete and so on, forwarded to
//! its ttrpc socket (TTRPC_ADDRESS).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use containerd_shim_protos::protobuf::{MessageField, MessageFull};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use containerd_shim_protos::ttrpc::context;
use tokio::sync::{Notify, mpsc};

use crate::log;
use crate::message::{any, timestamp};

/// How long one event may take, and how long containerd may be away before one is given up: after a restart it asks for
/// the state of each task anyway.
const PATIENCE: Duration = Duration::from_secs(5);
const AWAY: Duration = Duration::from_secs(60);
/// How long the last events may take when the shim ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where events are put.
#[derive(Clone, Debug)]
pub struct Events {
    sender: mpsc::UnboundedSender<Envelope>,
    namespace: String,
    news: Arc<Notify>,
}

/// Ends when the last [`Events`] is gone and all are sent, or cannot be.
#[derive(Debug)]
pub struct Publisher(tokio::task::JoinHandle<()>);

impl Events {
    /// Begins to publish to this socket; none if the address is empty.
    pub fn begin(address: String, namespace: String) -> (Events, Publisher) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let news = Arc::default();
        (Events { sender, namespace, news }, Publisher(tokio::spawn(publish(address, receiver))))
    }

    /// Puts one at the end of the line.
    pub fn send<T: MessageFull>(&self, topic: &str, event: &T) {
        let mut envelope = Envelope::new();
        envelope.timestamp = MessageField::some(timestamp(SystemTime::now()));
        envelope.namespace = self.namespace.clone();
        envelope.topic = topic.to_owned();
        envelope.event = MessageField::some(any(event));
        let _ = self.sender.send(envelope);
        self.news.notify_one();
    }

    /// Until something has happened since this was last awaited.
    pub async fn news(&self) {
        self.news.notified().await;
    }
}

impl Publisher {
    /// Waits for the last events.
    pub async fn end(self) {
        let _ = tokio::time::timeout(FAREWELL, self.0).await;
    }
}

async fn publish(address: String, mut events: mpsc::UnboundedReceiver<Envelope>) {
    let mut client: Option<EventsClient> = None;
    while let Some(envelope) = events.recv().await {
        if !address.is_empty() {
            deliver(&address, &mut client, envelope).await;
        }
    }
}

async fn deliver(address: &str, client: &mut Option<EventsClient>, envelope: Envelope) {
    let end = tokio::time::Instant::now() + AWAY;
    let mut pause = Duration::from_millis(10);
    let mut request = ForwardRequest::new();
    request.envelope = MessageField::some(envelope);
    loop {
        let result = match client {
            Some(client) => {
                client.forward(context::with_duration(PATIENCE), &request).await.map(drop)
            }
            None => {
                let socket = if address.contains("://") {
                    address.to_owned()
                } else {
                    format!("unix://{address}")
                };
                match Client::connect(&socket).await {
                    Ok(connected) => {
                        *client = Some(EventsClient::new(connected));
                        continue;
                    }
                    Err(error) => Err(error),
                }
            }
        };
        let Err(error) = result else { return };
        *client = None;
        if tokio::time::Instant::now() > end {
            log::warn(format_args!("event {} is given up: {error}", request.envelope.topic));
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}
