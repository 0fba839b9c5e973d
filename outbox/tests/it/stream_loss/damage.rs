//! What can happen to a stream.

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use testkit::{copy_directory, nats::Server, unique};

use super::STAYING;
use crate::support::{Target, World};

#[derive(Debug, Clone, Copy)]
pub(super) enum Damage {
    OlderStore,
    /// The server's disk for messages alone: what consumers have read is kept elsewhere.
    OlderMessages,
    DamagedBlock {
        has_index: bool,
    },
    TruncatedBlock {
        has_index: bool,
    },
    Deleted,
    Purged,
    PurgedUpTo,
    PurgedSubject,
    Replaced,
}

impl Damage {
    pub(super) async fn happens(
        self,
        server: &mut Server,
        world: &World,
        target: &Target,
        copy: &Path,
    ) {
        let messages = format!("jetstream/$G/streams/{}/msgs", target.stream);
        let stored = server.store().to_owned();
        let block = stored.join(&messages).join("1.blk");
        let index = stored.join(&messages).join("index.db");
        match self {
            Self::OlderStore => {
                server.stop().await;
                replace(&stored.join("jetstream"), &copy.join("jetstream"));
            }
            Self::OlderMessages => {
                server.stop().await;
                replace(&stored.join(&messages), &copy.join(&messages));
            }
            Self::DamagedBlock { has_index } => {
                server.stop().await;
                let mut file = fs::File::options()
                    .write(true)
                    .open(&block)
                    .expect("a block");
                let length = file.metadata().expect("a length").len();
                file.seek(SeekFrom::Start(length * 7 / 10)).expect("there");
                file.write_all(b"damaged!").expect("written");
                if !has_index {
                    fs::remove_file(&index).expect("gone");
                }
            }
            Self::TruncatedBlock { has_index } => {
                server.stop().await;
                let file = fs::File::options()
                    .write(true)
                    .open(&block)
                    .expect("a block");
                let length = file.metadata().expect("a length").len();
                file.set_len(length * 7 / 10).expect("truncated");
                if !has_index {
                    fs::remove_file(&index).expect("gone");
                }
            }
            Self::Replaced => {
                server.stop().await;
                fs::remove_dir_all(stored.join("jetstream")).expect("empty");
            }
            Self::Deleted => {
                let stream = world.stream(target).await;
                for sequence in [2, 3, 13, 20] {
                    stream.delete_message(sequence).await.expect("gone");
                }
                return;
            }
            Self::Purged => {
                world.stream(target).await.purge().await.expect("purged");
                return;
            }
            Self::PurgedUpTo => {
                let stream = world.stream(target).await;
                let purge = stream.purge().sequence(STAYING as u64 + 2);
                purge.await.expect("purged");
                return;
            }
            Self::PurgedSubject => {
                let stream = world.stream(target).await;
                let purge = stream.purge().filter(&target.subject).keep(3);
                purge.await.expect("purged");
                return;
            }
        }
        server.restart().await;
    }
}

/// Of what the server has stored by now.
pub(super) async fn copy(server: &mut Server) -> PathBuf {
    let copy = std::env::temp_dir().join(unique("store"));
    server.stop().await;
    copy_directory(&server.store().join("jetstream"), &copy.join("jetstream"));
    server.restart().await;
    copy
}

fn replace(stored: &Path, copy: &Path) {
    fs::remove_dir_all(stored).expect("gone");
    copy_directory(copy, stored);
}
