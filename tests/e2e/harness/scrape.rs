//! The server's metrics and probes, asked over plain HTTP.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Server, soon};

/// What one connection was answered.
pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

/// The metrics at one moment.
pub struct Scrape(pub String);

impl Server {
    /// A connection over which nothing has been said yet.
    pub async fn metrics_connection(&self) -> TcpStream {
        let connected = soon("a connection", TcpStream::connect(self.metrics));
        connected.await.unwrap()
    }

    /// Asks for a page.
    pub async fn page(&self, path: &str) -> Answer {
        self.ask("GET", path).await
    }

    /// Asks for a page by another method.
    pub async fn ask(&self, method: &str, path: &str) -> Answer {
        let mut connection = self.metrics_connection().await;
        let request = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = connection.read_to_string(&mut answer);
        soon("the whole answer", read).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        Answer {
            status: head["HTTP/1.1 ".len()..][..3].parse().unwrap(),
            head: head.to_lowercase(),
            body: body.to_owned(),
        }
    }

    pub async fn scrape(&self) -> Scrape {
        let answer = self.page("/metrics").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        Scrape(answer.body)
    }

    /// Waits for what is counted just after it can be seen elsewhere.
    pub async fn scrape_that(&self, what: &str, wanted: impl Fn(&Scrape) -> bool) -> Scrape {
        soon(what, async {
            loop {
                let scrape = self.scrape().await;
                if wanted(&scrape) {
                    return scrape;
                }
            }
        })
        .await
    }
}

impl Scrape {
    /// The value of a sample, whose labels come in their order.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{value}\""))
            .collect();
        let sample = match &labels[..] {
            [] => format!("{name} "),
            labels => format!("{name}{{{}}} ", labels.join(",")),
        };
        let mut values = self.0.lines().filter_map(|it| it.strip_prefix(&sample));
        let value = values.next();
        let value = value.unwrap_or_else(|| panic!("there is no {sample}:\n{}", self.0));
        assert_eq!(values.next(), None, "{sample} is there twice");
        value.parse().unwrap()
    }

    /// The names as Prometheus stores them, without what it adds for a histogram's parts.
    pub fn names(&self) -> Vec<String> {
        let types = self.0.lines().filter_map(|it| it.strip_prefix("# TYPE "));
        types
            .map(|it| match it.split_once(' ').unwrap() {
                (name, "counter") => format!("{name}_total"),
                (name, _) => name.to_owned(),
            })
            .collect()
    }

    /// The labels' names and values.
    pub fn labels(&self) -> Vec<(&str, &str)> {
        let samples = self.0.lines().filter(|it| !it.starts_with('#'));
        let sets = samples.filter_map(|it| Some(it.split_once('{')?.1.split_once('}')?.0));
        sets.flat_map(|it| it.split(','))
            .map(|it| {
                let (name, value) = it.split_once('=').unwrap();
                (name, value.trim_matches('"'))
            })
            .collect()
    }
}
