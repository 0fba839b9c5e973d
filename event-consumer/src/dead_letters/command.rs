//! What an operator does about dead letters from the command line of a service.

use std::time::Duration;

use anyhow::{Context, bail};
use async_nats::jetstream;
use clap::Subcommand;
use service_runtime::{
    nats::{self, ConsumerName, NatsSettings, Topic},
    terminal::confirm,
};
use tokio::time;

use super::{DeadLetter, DeadLetters, Payload};

const CONNECTION_NAME: &str = "dead-letters";
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Subcommands for a service's command line.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List them, the oldest first
    List {
        /// Only those behind this sequence
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// Most to list
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// Show one whole, with its headers and its bytes
    Show { sequence: u64 },
    /// Publish their events again, for this consumer alone, once what was wrong has been mended
    Replay {
        #[arg(required = true)]
        sequences: Vec<u64>,
    },
    /// Forget them; asks first
    Discard {
        #[arg(required = true)]
        sequences: Vec<u64>,
        /// Don't ask
        #[arg(long)]
        yes: bool,
    },
}

impl Command {
    /// Does what the operator asked for with the letters of this consumer, and says so on standard
    /// output.
    ///
    /// # Errors
    /// If NATS can't be reached within ten seconds or does not answer, there is no such letter, or
    /// the operator says no.
    pub async fn run(
        self,
        nats: &NatsSettings,
        topic: Topic,
        consumer: ConsumerName,
    ) -> anyhow::Result<()> {
        let client = time::timeout(CONNECT_DEADLINE, nats::connect(nats, CONNECTION_NAME));
        let client = client.await.context("NATS can't be reached")??;
        let letters = &DeadLetters::new(jetstream::new(client), topic, consumer);
        match self {
            Self::List { after, limit } => list(letters, after, limit).await,
            Self::Show { sequence } => show(letters, sequence).await,
            Self::Replay { sequences } => replay(letters, &sequences).await,
            Self::Discard { sequences, yes } => discard(letters, &sequences, yes).await,
        }
    }
}

async fn list(letters: &DeadLetters, after: u64, limit: u16) -> anyhow::Result<()> {
    let page = letters.list(after, limit.into(), |letter| letter).await?;
    for letter in &page.letters {
        println!(
            "{}  {}  {} bytes  {}: {}",
            letter.sequence,
            letter.time,
            letter.payload_bytes,
            origin(letter),
            letter.reason
        );
    }
    match page.letters.last() {
        None => println!("no dead letters"),
        Some(last) if page.is_cut => {
            println!("there may be more: --after {}", last.sequence);
        }
        Some(_) => {}
    }
    Ok(())
}

async fn show(letters: &DeadLetters, sequence: u64) -> anyhow::Result<()> {
    let letter = find(letters, sequence).await?;
    println!("sequence   {sequence}");
    println!("set aside  {}", letter.time);
    println!("from       {}", origin(&letter));
    println!("consumer   {}", rejected_by(&letter));
    println!("reason     {}", letter.reason);
    for (name, values) in letter.headers.iter() {
        for value in values {
            println!(
                "header     {name}: {}",
                printable(value.as_str().as_bytes())
            );
        }
    }
    match letter.payload {
        Payload::Here(payload) => println!("payload    {}", printable(&payload)),
        Payload::Referenced => println!("payload    is no longer on the stream"),
    }
    Ok(())
}

async fn replay(letters: &DeadLetters, sequences: &[u64]) -> anyhow::Result<()> {
    for sequence in sequences {
        let letter = find(letters, *sequence).await?;
        let replayed = letters.replay(letter).await;
        let event = replayed.with_context(|| format!("dead letter {sequence}"))?;
        println!("dead letter {sequence} is on the stream again, at {event}");
    }
    Ok(())
}

async fn discard(letters: &DeadLetters, sequences: &[u64], yes: bool) -> anyhow::Result<()> {
    for sequence in sequences {
        let letter = find(letters, *sequence).await?;
        let question = format!(
            "Forget dead letter {sequence} ({})? Its event will never be applied.",
            letter.reason
        );
        if !yes && !confirm(&question)? {
            bail!("dead letter {sequence} is kept");
        }
        letters.discard(letter).await?;
        println!("dead letter {sequence} is discarded");
    }
    Ok(())
}

async fn find(letters: &DeadLetters, sequence: u64) -> anyhow::Result<DeadLetter> {
    let letter = letters.find(sequence).await?;
    letter.with_context(|| format!("there is no dead letter {sequence}"))
}

fn origin(letter: &DeadLetter) -> String {
    let sequence = letter.stream_sequence.unwrap_or_default();
    format!("{} {sequence}", letter.stream)
}

fn rejected_by(letter: &DeadLetter) -> &str {
    match letter.consumer.as_str() {
        "" => "not recorded by the earlier release that wrote this letter",
        consumer => consumer,
    }
}

/// Text as it is, other bytes escaped: a payload must not command the terminal.
fn printable(bytes: &[u8]) -> String {
    let escape = |c: char| -> String {
        match c {
            '\n' | '\t' => c.into(),
            c if c.is_control() => c.escape_default().collect(),
            c => c.into(),
        }
    };
    let chunks = bytes.utf8_chunks().map(|chunk| {
        let text: String = chunk.valid().chars().map(escape).collect();
        format!("{text}{}", chunk.invalid().escape_ascii())
    });
    chunks.collect()
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn a_payload_does_not_command_the_terminal() {
        assert_eq!(printable("Zoë\n".as_bytes()), "Zoë\n");
        assert_eq!(printable(b"\x1b[2J\xff!"), r"\u{1b}[2J\xff!");
    }
}
