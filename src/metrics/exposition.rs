//! The counters as Prometheus text: the names that dashboards rely on.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;

use super::{Answered, DaemonCounters, InputCounters, OutputCounters};
use crate::message::Grammar;
use crate::queue::Queue;

/// A part of the server that counts.
#[derive(Clone, Debug)]
pub enum Source {
    Input { name: Arc<str>, kind: &'static str, counters: Arc<InputCounters> },
    Output { name: Arc<str>, kind: &'static str, queue: Arc<Queue>, counters: Arc<OutputCounters> },
}

/// Everything that is counted now; a reload replaces the list.
#[derive(Debug, Default)]
pub struct Registry {
    pub daemon: DaemonCounters,
    sources: Mutex<Vec<Source>>,
}

impl Registry {
    pub fn replace(&self, sources: Vec<Source>) {
        *self.sources.lock().unwrap_or_else(PoisonError::into_inner) = sources;
    }

    /// The text that `/metrics` answers with.
    pub fn text(self: &Arc<Self>) -> String {
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(All(self.clone())));
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

#[derive(Debug)]
struct All(Arc<Registry>);

/// A value, and the label that tells it from its siblings.
type Value = (Option<(&'static str, &'static str)>, u64);

/// The names of a part's two labels, its own name and kind, and its values.
type Found<'r> = ([&'static str; 2], &'r Arc<str>, &'static str, Vec<Value>);

/// One line of a family.
struct Row {
    labels: Vec<(&'static str, String)>,
    value: u64,
}

impl Collector for All {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let sources = self.0.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let mut families = Families { encoder, sources: &sources };
        families.inputs()?;
        families.outputs()?;
        let daemon = &self.0.daemon;
        let rows = [("applied", daemon.reloads.get()), ("refused", daemon.reloads_failed.get())]
            .map(|(result, value)| Row { labels: vec![("result", result.to_owned())], value });
        families.counter("penstock_reloads", "Configuration reloads by their result", rows.into())
    }
}

struct Families<'e, 's> {
    encoder: DescriptorEncoder<'e>,
    sources: &'s [Source],
}

fn alone(value: u64) -> Vec<Value> {
    vec![(None, value)]
}

fn by<const N: usize>(label: &'static str, values: [(&'static str, u64); N]) -> Vec<Value> {
    values.map(|(name, value)| (Some((label, name)), value)).into()
}

impl Families<'_, '_> {
    fn inputs(&mut self) -> fmt::Result {
        let rows = self.of_inputs(|c| alone(c.messages.get()));
        self.counter("penstock_received_messages", "Messages received", rows)?;
        let rows = self.of_inputs(|c| alone(c.bytes.get()));
        self.counter("penstock_received_bytes", "Octets of the messages received, without their framing", rows)?;
        let rows = self.of_inputs(|c| by("grammar", Grammar::ALL.map(|g| (g.name(), c.grammars[g as usize].get()))));
        self.counter("penstock_parsed_messages", "Messages by the grammar that took them", rows)?;
        let rows = self.of_inputs(|c| by("error", [("truncated", c.truncated.get()), ("miscounted", c.miscounted.get())]));
        self.counter("penstock_framing_errors", "Frames longer than max-message, and counts that cannot be meant", rows)?;
        let rows = self.of_inputs(|c| by("answer", Answered::ALL.map(|a| (a.name(), c.requests[a as usize].get()))));
        self.counter("penstock_requests", "Requests by how they were answered", rows)?;
        let rows = self.of_inputs(|c| alone(c.foreign.get()));
        self.counter("penstock_foreign_records", "Records of which something could only be shown as text", rows)?;
        let rows = self.of_inputs(|c| alone(c.unrouted.get()));
        self.counter("penstock_unrouted_messages", "Messages that no route took", rows)?;
        let rows = self.of_inputs(|c| alone(c.repeated.get()));
        self.counter("penstock_repeated_messages", "Messages that were counted as repetitions instead of kept", rows)?;
        let rows = self.of_inputs(|c| alone(c.kernel_drops.get()));
        self.counter("penstock_kernel_drops", "Datagrams that the kernel dropped: the receive buffer was full", rows)?;
        let rows = self.of_inputs(|c| alone(c.connections_total.get()));
        self.counter("penstock_connections_accepted", "Connections let in", rows)?;
        let rows = self.of_inputs(|c| {
            by("reason", [("allow", c.refused_allow.get()), ("limit", c.refused_limit.get()), ("tls", c.refused_tls.get())])
        });
        self.counter("penstock_refused", "Connections and datagrams of peers that were not let in", rows)?;
        let rows = self.of_inputs(|c| alone(c.connections.get()));
        self.gauge("penstock_connections", "Connections open now", rows)
    }

    fn outputs(&mut self) -> fmt::Result {
        let rows = self.of_outputs(|queue, _| alone(queue.counters.queued.get()));
        self.counter("penstock_queued_messages", "Messages put into an output's queue", rows)?;
        let rows = self.of_outputs(|queue, _| alone(queue.counters.delivered.get()));
        self.counter("penstock_delivered_messages", "Messages that the destination has", rows)?;
        let rows = self.of_outputs(|_, c| alone(c.retries.get()));
        self.counter("penstock_delivery_retries", "Deliveries that failed and were tried again", rows)?;
        let rows = self.of_outputs(|_, c| alone(c.redirected.get()));
        self.counter("penstock_redirected_messages", "Messages written to the fall-back file", rows)?;
        let rows = self.of_outputs(|queue, _| {
            let c = &queue.counters;
            let reasons = [
                ("expired", &c.dropped_expired),
                ("full", &c.dropped_full),
                ("missing", &c.disk.missing),
                ("rejected", &c.dropped_rejected),
                ("shed", &c.dropped_shed),
                ("stop", &c.dropped_stop),
            ];
            by("reason", reasons.map(|(reason, counter)| (reason, counter.get())))
        });
        self.counter("penstock_dropped_messages", "Messages dropped, by the reason", rows)?;
        let rows = self.of_outputs(|queue, _| {
            let c = &queue.counters;
            let events = [("handover", &c.handovers), ("lock-wait", &c.lock_waits), ("wakeup", &c.wakeups)];
            by("event", events.map(|(event, counter)| (event, counter.get())))
        });
        self.counter("penstock_queue_events", "What crossing from readers to an output took, many messages at a time", rows)?;
        let rows = self.of_outputs(|queue, _| alone(queue.counters.bytes.get()));
        self.gauge("penstock_queue_bytes", "Bytes in an output's queue now", rows)?;
        let rows = self.of_outputs(|queue, _| alone(queue.counters.disk.stored.get()));
        self.counter("penstock_queue_disk_stored_messages", "Messages written to an output's queue on disk", rows)?;
        let rows = self.of_outputs(|queue, _| alone(queue.counters.disk.records.get()));
        self.gauge("penstock_queue_disk_messages", "Messages in an output's queue on disk now", rows)?;
        let rows = self.of_outputs(|queue, _| alone(queue.counters.disk.bytes.get()));
        self.gauge("penstock_queue_disk_bytes", "Bytes of an output's queue on disk now", rows)?;
        let rows = self.of_outputs(|_, c| alone(c.failing.get()));
        self.gauge("penstock_output_failing", "1 while the last delivery has failed", rows)
    }

    fn of_inputs(&self, values: impl Fn(&InputCounters) -> Vec<Value>) -> Vec<Row> {
        self.rows(|source| match source {
            Source::Input { name, kind, counters } => Some((["input", "kind"], name, kind, values(counters))),
            Source::Output { .. } => None,
        })
    }

    fn of_outputs(&self, values: impl Fn(&Queue, &OutputCounters) -> Vec<Value>) -> Vec<Row> {
        self.rows(|source| match source {
            Source::Input { .. } => None,
            Source::Output { name, kind, queue, counters } => Some((["output", "kind"], name, kind, values(queue, counters))),
        })
    }

    fn rows(&self, values: impl for<'r> Fn(&'r Source) -> Option<Found<'r>>) -> Vec<Row> {
        let mut rows = Vec::new();
        for ([part, kind], name, kind_name, values) in self.sources.iter().filter_map(values) {
            for (extra, value) in values {
                let own = [(part, name.to_string()), (kind, kind_name.to_owned())];
                let labels = own.into_iter().chain(extra.map(|(label, text)| (label, text.to_owned()))).collect();
                rows.push(Row { labels, value });
            }
        }
        rows
    }

    /// `name` is given without its `_total`.
    fn counter(&mut self, name: &str, help: &str, rows: Vec<Row>) -> fmt::Result {
        self.family(&format!("{name}_total"), help, rows, MetricType::Counter)
    }

    fn gauge(&mut self, name: &str, help: &str, rows: Vec<Row>) -> fmt::Result {
        self.family(name, help, rows, MetricType::Gauge)
    }

    fn family(&mut self, name: &str, help: &str, rows: Vec<Row>, kind: MetricType) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, kind)?;
        for row in rows {
            Plain(row.value).encode(family.encode_family(&row.labels)?)?;
        }
        Ok(())
    }
}

/// A value under the very name of its family: in the text format of Prometheus, unlike OpenMetrics, a counter's family
/// is called `_total` too, and `promtool` holds to that.
#[derive(Debug)]
struct Plain(u64);

impl EncodeMetric for Plain {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.0)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_shown_with_their_labels() {
        let registry = Arc::new(Registry::default());
        let counters = Arc::new(InputCounters::default());
        counters.grammars[Grammar::Headerless as usize].add(7);
        registry.replace(vec![Source::Input { name: "udp".into(), kind: "udp", counters }]);
        let text = registry.text();
        assert!(text.contains("penstock_parsed_messages_total{input=\"udp\",kind=\"udp\",grammar=\"headerless\"} 7\n"), "{text}");
        assert!(text.contains("# TYPE penstock_connections gauge\n"));
    }
}
