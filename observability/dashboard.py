#!/usr/bin/env python3
"""Writes dashboard.json for Grafana: observability/dashboard.py > observability/dashboard.json

A panel that names an alert has the limit of that alert as its threshold, and its summary as its
description, as alerts.yml says them.
"""

import json
import math
import re
from pathlib import Path

ALERTS = (Path(__file__).parent / "alerts.yml").read_text()
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
I = 'instance=~"$instance"'
S = 'stream=~"$stream"'
C = 'consumer=~"$consumer"'
API = 'route!~"/livez|/readyz|/metrics",' + I

VARIABLES = [
    ("instance", "Instance", "label_values(build_info, instance)"),
    ("stream", "Stream", "label_values(outbox_pending_events, stream)"),
    ("consumer", "Consumer", "label_values(consumer_pending_messages, consumer)"),
]


def alert(name):
    """The limit of an alert and its runbook."""
    rule = re.search(rf"- alert: {name}\n(.*?)runbook: (\S+)", ALERTS, re.S)
    limit = re.search(r" >=? ([0-9.]+(?: \* [0-9.]+)*)$", rule[1], re.M)[1]
    value = math.prod(float(factor) for factor in limit.split(" * "))
    # Grafana draws what reaches a threshold; of a count, 1 is the first that is above 0.
    return value or 1, f"Alert {name}, limit {limit}. Runbook: {rule[2]}"


def quantiles(metric, labels, by=""):
    """The median and the 99th percentile of a histogram."""
    prefix = "".join(f"{{{{{label}}}}} " for label in by.split(", ") if label)
    grouped = ", ".join(filter(None, [by, "le"]))
    rates = f"sum by ({grouped}) (rate({metric}_bucket{{{labels}}}[$__rate_interval]))"
    return [(f"histogram_quantile({q}, {rates})", f"{prefix}{name}") for q, name in [(0.5, "median"), (0.99, "p99")]]


def per_second(metric, labels, by):
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return [(f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))", legend)]


def largest(metric, labels, by):
    """Of a fact that several processes report."""
    return [(f"max by ({by}) ({metric}{{{labels}}})", f"{{{{{by}}}}}")]


def graph(title, unit, queries, alert=None, width=8):
    return {"type": "timeseries", "title": title, "unit": unit, "queries": queries, "alert": alert, "width": width}


def stat(title, unit, query, alert=None, good_above=None):
    return {"type": "stat", "title": title, "unit": unit, "queries": [(query, "")], "alert": alert,
            "good_above": good_above, "width": 4}


ROWS = {
    "Overview": [
        stat("Alerts that fire", "none", 'count(ALERTS{alertstate="firing"}) or vector(0)'),
        stat("Services that do not answer", "none",
             'count(max by (job) (up{job=~"user-service|relay|notification-service|audit-log"}) == 0) or vector(0)'),
        stat("A relay is active", "bool_yes_no", "max(outbox_lease_held) or vector(0)", good_above=1),
        stat("Oldest event in the outbox", "s", f"max(outbox_oldest_pending_age_seconds{{{S}}})", "OutboxBehind"),
        stat("Age of the copy", "s", f"max(consumer_lag_seconds{{{C}}})", "CopyBehind"),
        stat("Written to applied, p99", "s",
             f"histogram_quantile(0.99, sum by (le) (rate(consumer_written_to_handled_seconds_bucket{{{C}}}[5m])))"),
        stat("Parked events", "none", "max(outbox_parked_events)", "EventsParked"),
        stat("Dead letters", "none", f"sum(max by (consumer) (consumer_dead_letters{{{C}}}))", "DeadLetters"),
        stat("Holes", "none", f"sum(max by (consumer) (consumer_holes{{{C}}}))", "EventsMissed"),
        stat("Users that differ", "none", "max(verification_differences)", "CopyDiffers"),
        stat("Age of the verification", "s", "max(verification_age_seconds)", "VerificationStale"),
        stat("Requests that fail", "percentunit",
             f'sum(rate(http_server_request_duration_seconds_count{{status=~"5..",{API}}}[5m])) '
             f"/ sum(rate(http_server_request_duration_seconds_count{{{API}}}[5m]))", "HttpErrors"),
        graph("From the write to the copy", "s", quantiles("consumer_written_to_handled_seconds", C, "consumer")),
        graph("Events published and handled", "ops",
              per_second("outbox_published_total", S, "stream")
              + per_second("consumer_messages_total", C, "consumer, verdict")),
        graph("Readiness checks that pass", "bool_yes_no",
              [(f"min by (job, check) (readiness_check{{{I}}})", "{{job}} {{check}}")]),
    ],
    "HTTP": [
        graph("Requests", "reqps", per_second("http_server_request_duration_seconds_count", API, "job, method, route")),
        graph("Failed requests", "reqps",
              per_second("http_server_request_duration_seconds_count", f'status=~"5..",{API}', "job, route, status")),
        graph("Duration", "s", quantiles("http_server_request_duration_seconds", API, "job, route")),
        graph("Requests in flight", "none", [(f"http_server_requests_in_flight{{{I}}}", "{{instance}}")]),
        graph("Requests and connections refused", "reqps", per_second("http_server_rejected_total", I, "job, reason")),
        graph("Clients that follow changes", "none", [(f"live_followers{{{I}}}", "{{instance}}")]),
    ],
    "Outbox and relay": [
        graph("Events that wait", "none", largest("outbox_pending_events", S, "stream")),
        graph("Age of the oldest event that waits", "s",
              largest("outbox_oldest_pending_age_seconds", S, "stream"), "OutboxBehind"),
        graph("From the write to the stream", "s", quantiles("outbox_written_to_published_seconds", S, "stream")),
        graph("Published", "ops", per_second("outbox_published_total", S, "stream")
              + [(f"sum by (stream) (rate(outbox_duplicates_total{{{S}}}[$__rate_interval]))", "{{stream}} repeats")]),
        graph("From sending to the acknowledgement", "s", quantiles("outbox_publish_duration_seconds", S, "stream")),
        graph("In flight, and in a batch", "none",
              [(f"sum by (stream) (outbox_in_flight_events{{{S}}})", "{{stream}} in flight")]
              + quantiles("outbox_batch_events", S, "stream")),
        graph("Failures", "ops",
              [(f"sum by (stream) (rate(outbox_publish_failures_total{{{S}}}[$__rate_interval]))", "{{stream}} publishing"),
               (f"sum by (stream) (rate(outbox_session_failures_total{{{S}}}[$__rate_interval]))", "{{stream}} sessions")]),
        graph("Relays: active, and changes of the lease", "none",
              [(f"outbox_relay_active{{{I}}}", "{{instance}} is active"),
               ("changes(max(outbox_lease_epoch)[15m:15s])", "changes in 15 minutes")],
              "RelayFlapping"),
        graph("Age of the oldest gap", "s", largest("outbox_oldest_gap_age_seconds", S, "stream"), "GapOpenForLong"),
        graph("Open gaps", "none", largest("outbox_open_gaps", S, "stream")),
        graph("Stream losses, in an hour", "none",
              [(f"sum by (stream) (increase(outbox_stream_losses_total{{{S}}}[1h]))", "{{stream}} losses"),
               (f"sum by (stream) (increase(outbox_refilled_total{{{S}}}[1h]))", "{{stream}} refilled"),
               (f"sum by (stream) (increase(outbox_lost_total{{{S}}}[1h]))", "{{stream}} messages"),
               (f"sum by (stream) (increase(outbox_unrecoverable_total{{{S}}}[1h]))", "{{stream}} lost for good")],
              "EventsLost"),
        graph("After restores", "none",
              [(f"max by (stream) (outbox_orphans{{{S}}})", "{{stream}} not restated"),
               (f"sum by (stream) (increase(outbox_restated_total{{{S}}}[1h]))", "{{stream}} restated in an hour"),
               (f"max by (stream) (outbox_unreconciled{{{S}}})", "{{stream}} is unreconciled")], "OrphansNotRestated"),
        graph("Position on the stream", "none", largest("outbox_stream_sequence", S, "stream")),
        graph("Checks of the stream", "ops", per_second("outbox_stream_checks_total", S, "stream")),
        graph("Parked", "none", [("max(outbox_parked_events)", "parked")]
              + [(f"sum by (stream) (increase(outbox_parked_total{{{S}}}[1h]))", "{{stream}} in an hour")],
              "EventsParked"),
    ],
    "Consumer and copy": [
        graph("Age of the copy", "s", largest("consumer_lag_seconds", C, "consumer"), "CopyBehind"),
        graph("Messages that wait", "none",
              [(f"max by (consumer) (consumer_pending_messages{{{C}}})", "{{consumer}} pending"),
               (f"max by (consumer) (consumer_unacknowledged_messages{{{C}}})", "{{consumer}} delivered"),
               (f"max by (consumer) (consumer_redelivered_messages{{{C}}})", "{{consumer}} delivered again")]),
        graph("Messages handled", "ops", per_second("consumer_messages_total", C, "consumer, verdict")),
        graph("From the stream to the copy", "s", quantiles("consumer_published_to_handled_seconds", C, "consumer")),
        graph("Duration of a batch", "s", quantiles("consumer_handle_duration_seconds", C, "consumer")),
        graph("Messages in a batch", "none", quantiles("consumer_batch_messages", C, "consumer")),
        graph("Messages delivered again", "percentunit",
              [(f"sum by (consumer) (rate(consumer_redelivered_total{{{C}}}[$__rate_interval])) "
                f"/ sum by (consumer) (rate(consumer_messages_total{{{C}}}[$__rate_interval]))", "{{consumer}}")],
              "MessagesRedelivered"),
        graph("Events of the copy", "ops", per_second("projection_events_total", I, "outcome")),
        graph("Duration of a write to MongoDB", "s", quantiles("projection_write_duration_seconds", I)),
        graph("Dead letters and holes", "none",
              [(f"max by (consumer) (consumer_dead_letters{{{C}}})", "{{consumer}} dead letters"),
               (f"max by (consumer) (consumer_holes{{{C}}})", "{{consumer}} holes")], "DeadLetters"),
        graph("Age of the verification", "s", [("max(verification_age_seconds)", "age")], "VerificationStale"),
        graph("Verification", "none",
              [("max(verification_differences)", "users that differ"),
               ("sum(increase(verification_repaired_total[1h]))", "repaired in an hour"),
               ("sum(increase(verification_failures_total[1h]))", "failures in an hour")], "CopyDiffers"),
    ],
    "Saturation": [
        graph("Connections to Postgres in use", "percentunit",
              [(f'sum by (job, instance, pool) (postgres_pool_connections{{state="in_use",{I}}}) '
                f"/ sum by (job, instance, pool) (postgres_pool_connections_max{{{I}}})", "{{instance}} {{pool}}")],
              "PoolFull"),
        graph("Waits for a connection to Postgres", "s",
              quantiles("postgres_pool_acquire_duration_seconds", I, "job, pool"), "PoolWaits"),
        graph("Connections to Postgres not had, or closed at a deadline", "ops",
              [(f"sum by (job, pool) (rate(postgres_pool_acquire_failures_total{{{I}}}[$__rate_interval]))",
                "{{job}} {{pool}} not had"),
               (f"sum by (job, pool) (rate(postgres_connections_abandoned_total{{{I}}}[$__rate_interval]))",
                "{{job}} {{pool}} closed")]),
        graph("HTTP connections", "percentunit",
              [(f"http_server_connections{{{I}}} / http_server_connections_max", "{{instance}}")],
              "ConnectionsNearLimit"),
        graph("Requests in flight", "percentunit",
              [(f"http_server_requests_in_flight{{{I}}} / http_server_requests_in_flight_max", "{{instance}}")],
              "RequestsNearLimit"),
        graph("Open files", "percentunit", [(f"process_open_fds{{{I}}} / process_max_fds", "{{instance}}")],
              "FileDescriptorsNearLimit"),
        graph("Memory", "bytes", [(f"process_resident_memory_bytes{{{I}}}", "{{job}} {{instance}}")], "MemoryHigh"),
        graph("Processor", "percentunit",
              [(f"rate(process_cpu_seconds_total{{{I}}}[$__rate_interval])", "{{job}} {{instance}}")]),
        graph("Sessions that failed", "ops", per_second("sessions_failed_total", I, "job, session")),
        graph("Connections to NATS", "none",
              [(f"min by (job, connection) (nats_connected{{{I}}})", "{{job}} {{connection}}")]),
        graph("Spans exported and dropped", "ops",
              [(f"sum by (job) (rate(traces_exported_spans_total{{{I}}}[$__rate_interval]))", "{{job}} exported")]
              + [(f"sum by (job, reason) (rate(traces_dropped_spans_total{{{I}}}[$__rate_interval]))",
                  "{{job}} dropped, {{reason}}")]),
    ],
}


def panel(spec, number, x, y):
    steps = [{"color": "green", "value": None}]
    description = ""
    if spec["alert"]:
        limit, description = alert(spec["alert"])
        steps.append({"color": "red", "value": limit})
    if spec.get("good_above"):
        steps = [{"color": "red", "value": None}, {"color": "green", "value": spec["good_above"]}]
    drawn = {"thresholdsStyle": {"mode": "line" if spec["alert"] else "off"}, "fillOpacity": 5}
    return {
        "id": number,
        "type": spec["type"],
        "title": spec["title"],
        "description": description,
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": spec["width"], "h": 4 if spec["type"] == "stat" else 8},
        "fieldConfig": {
            "defaults": {
                "unit": spec["unit"],
                "min": 0,
                "thresholds": {"mode": "absolute", "steps": steps},
                "custom": drawn if spec["type"] == "timeseries" else {},
            },
            "overrides": [],
        },
        "options": {"tooltip": {"mode": "multi", "sort": "desc"}} if spec["type"] == "timeseries" else {},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": DATASOURCE, "expr": query, "legendFormat": legend}
            for index, (query, legend) in enumerate(spec["queries"])
        ],
    }


def panels():
    made, y = [], 0
    for title, specs in ROWS.items():
        made.append({"id": len(made) + 1, "type": "row", "title": title, "collapsed": False, "panels": [],
                     "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        x, y, height = 0, y + 1, 0
        for spec in specs:
            if x + spec["width"] > 24:
                x, y = 0, y + height
            made.append(panel(spec, len(made) + 1, x, y))
            x, height = x + spec["width"], made[-1]["gridPos"]["h"]
        y += height
    return made


def variable(name, label, query):
    return {
        "type": "query", "name": name, "label": label, "datasource": DATASOURCE, "definition": query,
        "query": {"query": query, "refId": name}, "refresh": 2, "sort": 1,
        "includeAll": True, "multi": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
    }


DASHBOARD = {
    "uid": "user-events",
    "title": "User events",
    "schemaVersion": 39,
    "version": 1,
    "tags": ["user-events"],
    "timezone": "browser",
    "editable": False,
    "graphTooltip": 1,
    "refresh": "10s",
    "time": {"from": "now-1h", "to": "now"},
    "templating": {"list": [variable(*it) for it in VARIABLES]},
    "annotations": {"list": [{
        "name": "Alerts", "datasource": DATASOURCE, "enable": True, "iconColor": "red",
        "expr": 'ALERTS{alertstate="firing"}', "titleFormat": "{{alertname}}", "step": "15s",
    }]},
    "panels": panels(),
}

if __name__ == "__main__":
    print(json.dumps(DASHBOARD, indent=2))
