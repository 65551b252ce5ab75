package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/incoming-mx/incoming/telemetry"
)

// facts is the metrics of each fact.
type facts struct {
	connect, accepted, rejected, closed *counter
	open                                *gauge
	sessionSeconds                      *histogram
	peers, busiest                      *gauge
	received, sent                      *counter

	queued, recipients    *counter
	size, commit, message *histogram
	discarded, notQueued  *counter

	delivery                     *counter
	deliverySeconds, deliveryAge *histogram
	held                         *gauge
	holds, dead                  *counter

	depth  *gauge
	oldest *gauge
	swept  *counter

	policy        *counter
	observed      *counter
	policySeconds *histogram
	limit         *counter
	limitUse      *gauge
	limitMax      *gauge
	smuggling     *counter
	tls           *counter
	tlsSeconds    *histogram
	tlsFailed     *counter
	tlsExpiry     *gauge
	spoolErrors   *counter
	spoolSick     *gauge
	spoolSpace    *gauge
	troubles      *counter
	inTrouble     *gauge
	panics        *counter
}

func newFacts(e *Exporter) facts {
	var (
		quick = prometheus.ExponentialBuckets(0.0005, 2, 16) // 0.5 ms to 16 s
		slow  = prometheus.ExponentialBuckets(0.01, 4, 10)   // 10 ms to 44 min
		// Up to give_up's default: a week.
		long  = []float64{0.1, 1, 10, 60, 10 * 60, 3600, 6 * 3600, 24 * 3600, 3 * 24 * 3600, 7 * 24 * 3600}
		sizes = prometheus.ExponentialBuckets(1024, 4, 9) // 1 KiB to 64 MiB
	)
	return facts{
		connect:        e.counter("session_connect_total", "Connections taken.", "listener"),
		accepted:       e.counter("session_accepted_total", "Connections sent the banner.", "listener"),
		rejected:       e.counter("session_rejected_total", "Replies of 4xx and 5xx: a connection, a command or a message refused.", "listener", "stage", "code", "policy"),
		closed:         e.counter("session_closed_total", "Connections ended, by why.", "listener", "reason"),
		open:           e.gauge("session_open", "Connections open now.", "listener"),
		peers:          e.gauge("session_peers", "Addresses that connections are open from, IPv6 by /64."),
		busiest:        e.gauge("session_busiest", "Connections open from the address that has most of them."),
		sessionSeconds: e.histogram(slow, "session_duration_seconds", "How long connections lasted.", "listener"),
		received:       e.counter("session_received_bytes_total", "Octets received from clients, counted when the connection ends.", "listener"),
		sent:           e.counter("session_sent_bytes_total", "Octets sent to clients, counted when the connection ends.", "listener"),

		queued:     e.counter("message_queued_total", "Messages accepted: committed to the queue.", "listener"),
		recipients: e.counter("message_recipients_total", "Recipients of accepted messages.", "listener"),
		size:       e.histogram(sizes, "message_size_bytes", "Size of accepted messages as stored."),
		commit:     e.histogram(quick, "message_commit_seconds", "How long the commit took."),
		message:    e.histogram(slow, "message_duration_seconds", "From MAIL to the end of the commit."),
		discarded:  e.counter("message_discarded_total", "Messages told 250 and forgotten, as a policy asked.", "policy"),
		notQueued:  e.counter("message_enqueue_error_total", "Messages that could not be taken into the queue, by why.", "reason"),

		delivery:        e.counter("delivery_result_total", "Attempts at delivery, by outcome.", "outcome"),
		deliverySeconds: e.histogram(slow, "delivery_duration_seconds", "How long attempts took.", "outcome"),
		deliveryAge:     e.histogram(long, "delivery_age_seconds", "Age of messages, since received, when they were delivered."),
		held:            e.gauge("delivery_held", "1 while deliveries are held back because the adapter keeps failing."),
		holds:           e.counter("delivery_held_total", "Times deliveries were held back."),
		dead:            e.counter("delivery_dead_total", "Messages that became dead letters, by kind.", "kind"),

		depth:  e.gauge("queue_depth", "Messages in the queue: ready, waiting, leased, dead, drafts.", "state"),
		oldest: e.gauge("queue_oldest_age_seconds", "Age of the oldest message that is not dead; 0 when there is none."),
		swept:  e.counter("queue_swept_total", "Dead letters removed because of their age, by kind.", "kind"),

		policy:        e.counter("policy_decision_total", "Objections and marks of policies: reject, tempfail, discard, quarantine, error, fail_open (it failed, and mail went on).", "policy", "stage", "decision"),
		observed:      e.counter("policy_observed_total", "The same of policies that are only observed: what they would have done.", "policy", "stage", "decision"),
		policySeconds: e.histogram(quick, "policy_decision_seconds", "How long policies took over them.", "policy"),
		limit:         e.counter("limit_hit_total", "Refusals by a limit, by the option's key.", "limit"),
		limitUse:      e.gauge("limit_hit_use", "How much of a limit was in use when it last refused, what was refused included.", "limit"),
		limitMax:      e.gauge("limit_hit_max", "That limit's value then.", "limit"),
		smuggling:     e.counter("smuggling_blocked_total", "Octets that another server might have taken for a command or the end of a message.", "what"),
		tls:           e.counter("tls_handshake_total", "TLS handshakes: ok or failed, by version.", "listener", "version", "result"),
		tlsSeconds:    e.histogram(quick, "tls_handshake_seconds", "How long handshakes took.", "result"),
		tlsFailed:     e.counter("tls_handshake_failed_total", "TLS handshakes that failed, by why.", "listener", "reason"),
		tlsExpiry:     e.gauge("tls_certificate_not_after_seconds", "When a certificate in use expires, in Unix time, by its number in the listener's list.", "listener", "certificate"),
		spoolErrors:   e.counter("spool_error_total", "Failures of the storage, and entries set aside, by what was being done.", "op"),
		spoolSick:     e.gauge("spool_sick", "1 while the storage is failing and nothing is accepted."),
		spoolSpace:    e.gauge("spool_space", "Room left where messages are kept: bytes, and inodes where they are counted.", "what"),
		troubles:      e.counter("trouble_total", "Troubles outside of sessions that began: accept, certificate, certificate_expiry, hidden_peers, dnsbl.", "kind"),
		inTrouble:     e.gauge("trouble", "1 while such a trouble lasts.", "kind", "listener"),
		panics:        e.counter("panic_total", "Panics recovered, by whose code it was.", "where"),
	}
}

func (f facts) hooks() telemetry.Hooks {
	return telemetry.Hooks{
		SessionConnect:      f.onConnect,
		SessionAccepted:     func(e telemetry.SessionAccepted) { f.accepted.inc(e.Listener) },
		SessionRejected:     f.onRejected,
		SessionClosed:       f.onClosed,
		SessionCrowd:        f.onCrowd,
		MessageQueued:       f.onQueued,
		MessageDiscarded:    func(e telemetry.MessageDiscarded) { f.discarded.inc(e.Policy) },
		MessageEnqueueError: func(e telemetry.MessageEnqueueError) { f.notQueued.inc(e.Reason) },
		DeliveryResult:      f.onDelivery,
		DeliveryHeld:        f.onHeld,
		DeliveryDead:        func(e telemetry.DeliveryDead) { f.dead.inc(e.Kind) },
		QueueDepth:          f.onDepth,
		QueueSwept:          func(e telemetry.QueueSwept) { f.swept.inc(e.Kind) },
		PolicyDecision:      f.onPolicy,
		LimitHit:            f.onLimit,
		SmugglingBlocked:    func(e telemetry.SmugglingBlocked) { f.smuggling.inc(e.What) },
		TLSHandshake:        f.onTLS,
		TLSCertificate:      f.onCertificate,
		SpoolError:          f.onSpool,
		SpoolSpace:          f.onSpace,
		Trouble:             f.onTrouble,
		Panic:               func(e telemetry.Panic) { f.panics.inc(e.Where) },
	}
}

func (f facts) onConnect(e telemetry.SessionConnect) {
	f.connect.inc(e.Listener)
	f.open.add(1, e.Listener)
}

func (f facts) onRejected(e telemetry.SessionRejected) {
	code := other
	if e.Code >= 400 && e.Code <= 599 {
		code = strconv.Itoa(e.Code)
	}
	f.rejected.inc(e.Listener, e.Stage, code, e.Policy)
}

func (f facts) onClosed(e telemetry.SessionClosed) {
	f.closed.inc(e.Listener, e.Reason)
	f.open.add(-1, e.Listener)
	f.sessionSeconds.observe(e.Duration.Seconds(), e.Listener)
	f.received.add(float64(e.BytesIn), e.Listener)
	f.sent.add(float64(e.BytesOut), e.Listener)
}

func (f facts) onCrowd(e telemetry.SessionCrowd) {
	f.peers.set(float64(e.Peers))
	f.busiest.set(float64(e.Busiest))
}

func (f facts) onQueued(e telemetry.MessageQueued) {
	f.queued.inc(e.Listener)
	f.recipients.add(float64(len(e.Rcpts)), e.Listener)
	f.size.observe(float64(e.Size))
	f.commit.observe(e.Commit.Seconds())
	f.message.observe(e.Duration.Seconds())
}

func (f facts) onDelivery(e telemetry.DeliveryResult) {
	f.delivery.inc(e.Outcome)
	f.deliverySeconds.observe(e.Duration.Seconds(), e.Outcome)
	if e.Outcome == "acked" {
		f.deliveryAge.observe(e.Age.Seconds())
	}
}

func (f facts) onHeld(e telemetry.DeliveryHeld) {
	if !e.Held {
		f.held.set(0)
		return
	}
	f.held.set(1)
	f.holds.inc()
}

func (f facts) onDepth(e telemetry.QueueDepth) {
	f.depth.set(float64(e.Ready), "ready")
	f.depth.set(float64(e.Waiting), "waiting")
	f.depth.set(float64(e.Leased), "leased")
	f.depth.set(float64(e.Dead), "dead")
	f.depth.set(float64(e.Drafts), "drafts")
	f.oldest.set(e.OldestAge.Seconds())
}

func (f facts) onPolicy(e telemetry.PolicyDecision) {
	if e.Observed {
		f.observed.inc(e.Policy, e.Stage, e.Decision)
		return
	}
	f.policy.inc(e.Policy, e.Stage, e.Decision)
	f.policySeconds.observe(e.Duration.Seconds(), e.Policy)
}

func (f facts) onLimit(e telemetry.LimitHit) {
	f.limit.inc(e.Limit)
	f.limitUse.set(float64(e.Use), e.Limit)
	f.limitMax.set(float64(e.Max), e.Limit)
}

func (f facts) onTLS(e telemetry.TLSHandshake) {
	result := "ok"
	if e.Err != nil {
		result = "failed"
		f.tlsFailed.inc(e.Listener, e.Reason)
	}
	f.tls.inc(e.Listener, e.Version, result)
	f.tlsSeconds.observe(e.Duration.Seconds(), result)
}

func (f facts) onSpace(e telemetry.SpoolSpace) {
	f.spoolSpace.set(float64(e.Bytes), "bytes")
	if e.Inodes >= 0 {
		f.spoolSpace.set(float64(e.Inodes), "inodes")
	}
}

func (f facts) onSpool(e telemetry.SpoolError) {
	if e.Well {
		f.spoolSick.set(0)
		return
	}
	f.spoolErrors.inc(e.Op)
	if e.Sick {
		f.spoolSick.set(1)
	}
}

func (f facts) onCertificate(e telemetry.TLSCertificate) {
	if e.NotAfter.IsZero() {
		f.tlsExpiry.remove(e.Listener, strconv.Itoa(e.Number))
		return
	}
	f.tlsExpiry.set(float64(e.NotAfter.Unix()), e.Listener, strconv.Itoa(e.Number))
}

func (f facts) onTrouble(e telemetry.Trouble) {
	if e.Over {
		f.inTrouble.set(0, e.Kind, e.Listener)
		return
	}
	f.troubles.inc(e.Kind)
	f.inTrouble.set(1, e.Kind, e.Listener)
}
