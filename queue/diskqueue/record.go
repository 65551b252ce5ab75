package diskqueue

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// format is the number of the format of meta.json that we write.
const format = 1

// record is all that meta.json says of a message. Its Entry's ID is the name of
// the directory; State and Dead are not in meta.json and are not set.
type record struct {
	queue.Entry

	hasSize bool   // Size is known
	hasCRC  bool   // CRC is known: the Elixir original wrote none
	crc     uint32 // CRC-32C of the stored text

	// params is the DSN parameters of recipients that are settled, kept in
	// case they are owed again.
	params map[string]queue.Recipient
	// badTime: received_at is missing or makes no sense.
	badTime bool
	// extra is the keys that we do not know, kept as they are.
	extra map[string]rawJSON
}

// newRecord is what a commit will write, but for what is settled only then.
func newRecord(id queue.ID, env queue.Envelope, o queue.Origin) *record {
	r := &record{Entry: queue.Entry{ID: id, Envelope: env, Origin: o}}
	r.ReceivedAt = o.ReceivedAt.UTC().Truncate(time.Millisecond)
	return r
}

// finish adds what is settled at the commit. The recipients are the record's own from
// then on; while the text comes they are held once.
func (r *record) finish(f queue.Final) {
	r.Envelope.RcptTo = slices.Clone(r.Envelope.RcptTo)
	r.Facts, r.Quarantine, r.Prepend, r.Skip = f.Facts, f.Quarantine, f.Prepend, f.Skip
}

// settle moves the recipients of done from owed to settled; outcomes for
// others are ignored. It reports whether anything changed. The slices that
// were there are left as they are, for readers may hold them.
func (r *record) settle(done []queue.Outcome) bool {
	owed := slices.Clone(r.Envelope.RcptTo)
	settled := slices.Clip(r.Settled)
	for _, o := range done {
		i := slices.IndexFunc(owed, func(to queue.Recipient) bool { return to.Address == o.Recipient })
		if i < 0 {
			continue
		}
		r.keepParams(owed[i])
		owed = slices.Delete(owed, i, i+1)
		settled = append(settled, o)
	}
	if len(settled) == len(r.Settled) {
		return false
	}
	r.Envelope.RcptTo, r.Settled = owed, settled
	return true
}

func (r *record) keepParams(to queue.Recipient) {
	if to.Notify == "" && to.ORcpt == "" {
		return
	}
	if r.params == nil {
		r.params = make(map[string]queue.Recipient)
	}
	r.params[to.Address] = to
}

// interrupted counts an attempt that its process did not live to end.
func (r *record) interrupted() {
	r.Attempts++
	r.LastError = "the process ended during this delivery"
}

// revive is what requeue does to a record: rejected recipients are owed again,
// nothing was attempted, and its age counts from now.
func (r *record) revive(now time.Time) {
	var settled []queue.Outcome
	for _, o := range r.Settled {
		if o.Rejected == "" {
			settled = append(settled, o)
			continue
		}
		to, ok := r.params[o.Recipient]
		if !ok {
			to = queue.Recipient{Address: o.Recipient}
		}
		r.Envelope.RcptTo = append(r.Envelope.RcptTo, to)
	}
	r.Settled = settled
	r.Attempts = 0
	r.NextAttempt = time.Time{}
	r.RequeuedAt = now.UTC().Truncate(time.Millisecond)
}

// rejection is why the application refused a recipient; "" when it refused
// none.
func (r *record) rejection() string {
	for _, o := range r.Settled {
		if o.Rejected != "" {
			return o.Rejected
		}
	}
	return ""
}

// metaJSON is meta.json. Keys that the Elixir original wrote keep its types:
// id, mail_from, rcpt_to, received_at, size, attempts.
type metaJSON struct {
	Format      int                `json:"format"`
	ID          text               `json:"id"`
	MailFrom    text               `json:"mail_from"`
	RcptTo      []text             `json:"rcpt_to"`
	Settled     []outcomeJSON      `json:"settled,omitempty"`
	SMTPUTF8    bool               `json:"smtputf8,omitempty"`
	Body        text               `json:"body,omitempty"`
	DSN         *dsnJSON           `json:"dsn,omitempty"`
	ReceivedAt  text               `json:"received_at"`
	RequeuedAt  text               `json:"requeued_at,omitempty"`
	Size        count              `json:"size"`
	CRC32C      text               `json:"crc32c,omitempty"`
	Attempts    int                `json:"attempts"`
	NextAttempt text               `json:"next_attempt,omitempty"`
	LastError   text               `json:"last_error,omitempty"`
	Prepend     text               `json:"prepend,omitempty"`
	Skip        []queue.Range      `json:"skip,omitempty"`
	Facts       map[string]rawJSON `json:"facts,omitempty"`
	Quarantine  text               `json:"quarantine,omitempty"`
	Listener    text               `json:"listener,omitempty"`
	Peer        text               `json:"peer,omitempty"`
	Hello       text               `json:"hello,omitempty"`
	TLS         *queue.TLSInfo     `json:"tls,omitempty"`
}

type outcomeJSON struct {
	Rcpt     text `json:"rcpt"`
	Rejected text `json:"rejected,omitempty"`
}

type dsnJSON struct {
	Ret   text          `json:"ret,omitempty"`
	EnvID text          `json:"envid,omitempty"`
	Rcpt  []dsnRcptJSON `json:"rcpt,omitempty"`
}

type dsnRcptJSON struct {
	Rcpt   text `json:"rcpt"`
	Notify text `json:"notify,omitempty"`
	ORcpt  text `json:"orcpt,omitempty"`
}

// meta is what meta.json says of r.
func (r *record) meta() *metaJSON {
	m := &metaJSON{
		Format:      format,
		ID:          text(r.ID),
		MailFrom:    text(r.Envelope.MailFrom),
		RcptTo:      make([]text, len(r.Envelope.RcptTo)),
		SMTPUTF8:    r.Envelope.SMTPUTF8,
		Body:        text(r.Envelope.Body),
		DSN:         r.dsn(),
		ReceivedAt:  timeText(r.ReceivedAt),
		RequeuedAt:  timeText(r.RequeuedAt),
		Attempts:    r.Attempts,
		NextAttempt: timeText(r.NextAttempt),
		LastError:   text(r.LastError),
		Prepend:     text(r.Prepend),
		Skip:        r.Skip,
		Quarantine:  text(r.Quarantine),
		Listener:    text(r.Listener),
		Peer:        text(r.Peer),
		Hello:       text(r.Hello),
		TLS:         r.TLS,
	}
	for i, to := range r.Envelope.RcptTo {
		m.RcptTo[i] = text(to.Address)
	}
	for _, o := range r.Settled {
		m.Settled = append(m.Settled, outcomeJSON{text(o.Recipient), text(o.Rejected)})
	}
	if r.hasSize {
		m.Size = count{r.Size, true}
	}
	if r.hasCRC {
		m.CRC32C = text(fmt.Sprintf("%08x", r.crc))
	}
	if len(r.Facts) > 0 {
		m.Facts = make(map[string]rawJSON, len(r.Facts))
		for k, v := range r.Facts {
			m.Facts[k] = rawJSON(v)
		}
	}
	return m
}

// encode is the text of meta.json.
func (r *record) encode() ([]byte, error) { return r.encodeInto(nil) }

// encodeInto may write over b, in place of memory of its own. What
// most messages have it writes itself, for every commit comes by here and
// reflection is a twentieth of its time; what few have it leaves to marshal,
// which writes the same.
func (r *record) encodeInto(b []byte) ([]byte, error) {
	if r.extra != nil || len(r.Settled) > 0 || len(r.Skip) > 0 || len(r.Facts) > 0 || !r.hasSize || !r.hasCRC {
		return marshal(r.meta(), r.extra)
	}
	if r.dsn() != nil || r.TLS != nil {
		return marshal(r.meta(), nil)
	}
	b = append(slices.Grow(b[:0], 512+len(r.Prepend)), `{"format":`...)
	b = strconv.AppendInt(b, format, 10)
	b = text(r.ID).append(append(b, `,"id":`...))
	b = text(r.Envelope.MailFrom).append(append(b, `,"mail_from":`...))
	b = append(b, `,"rcpt_to":[`...)
	for i, to := range r.Envelope.RcptTo {
		if i > 0 {
			b = append(b, ',')
		}
		b = text(to.Address).append(b)
	}
	b = append(b, ']')
	if r.Envelope.SMTPUTF8 {
		b = append(b, `,"smtputf8":true`...)
	}
	b = appendKey(b, "body", text(r.Envelope.Body))
	b = timeText(r.ReceivedAt).append(append(b, `,"received_at":`...))
	b = appendKey(b, "requeued_at", timeText(r.RequeuedAt))
	b = strconv.AppendInt(append(b, `,"size":`...), r.Size, 10)
	b = append(b, `,"crc32c":"`...)
	b = append(appendHex(b, r.crc), '"')
	b = strconv.AppendInt(append(b, `,"attempts":`...), int64(r.Attempts), 10)
	b = appendKey(b, "next_attempt", timeText(r.NextAttempt))
	b = appendKey(b, "last_error", text(r.LastError))
	if len(r.Prepend) > 0 {
		b = appendText(append(b, `,"prepend":`...), r.Prepend)
	}
	b = appendKey(b, "quarantine", text(r.Quarantine))
	b = appendKey(b, "listener", text(r.Listener))
	b = appendKey(b, "peer", text(r.Peer))
	b = appendKey(b, "hello", text(r.Hello))
	return append(b, "}\n"...), nil
}

// appendKey leaves out what is empty.
func appendKey(b []byte, key string, t text) []byte {
	if t == "" {
		return b
	}
	b = append(b, `,"`...)
	b = append(b, key...)
	return t.append(append(b, `":`...))
}

// appendHex writes eight digits.
func appendHex(b []byte, n uint32) []byte {
	const digits = "0123456789abcdef"
	for shift := 28; shift >= 0; shift -= 4 {
		b = append(b, digits[n>>shift&15])
	}
	return b
}

func (r *record) dsn() *dsnJSON {
	var d dsnJSON
	d.Ret, d.EnvID = text(r.Envelope.Ret), text(r.Envelope.EnvID)
	add := func(to queue.Recipient) {
		if to.Notify != "" || to.ORcpt != "" {
			d.Rcpt = append(d.Rcpt, dsnRcptJSON{text(to.Address), text(to.Notify), text(to.ORcpt)})
		}
	}
	for _, to := range r.Envelope.RcptTo {
		add(to)
	}
	for _, o := range r.Settled {
		add(r.params[o.Recipient])
	}
	if d.Ret == "" && d.EnvID == "" && d.Rcpt == nil {
		return nil
	}
	return &dsnJSON{d.Ret, d.EnvID, d.Rcpt}
}

// decode reads meta.json, whoever wrote it. Only what is not JSON at all, or
// from a format later than ours, is an error: what is missing or makes no
// sense is left out, and it is for the caller to see what then is missing.
func decode(id queue.ID, b []byte) (*record, error) {
	var m metaJSON // not on the heap: every lease from the disk comes by here
	if scanMeta(b, &m) {
		return m.record(id, nil)
	}
	long, extra, err := unmarshalMeta(b)
	if err != nil {
		return nil, fmt.Errorf("meta.json is not readable: %w", err)
	}
	return long.record(id, extra)
}

// record is what m says, and keys of others.
func (m *metaJSON) record(id queue.ID, extra map[string]rawJSON) (*record, error) {
	if m.Format > format {
		return nil, fmt.Errorf("meta.json has format %d, this version knows up to %d", m.Format, format)
	}
	r := &record{extra: extra, Entry: queue.Entry{
		ID: id,
		Envelope: queue.Envelope{
			MailFrom: string(m.MailFrom),
			SMTPUTF8: m.SMTPUTF8,
			Body:     string(m.Body),
		},
		Origin: queue.Origin{
			Listener: string(m.Listener),
			Peer:     string(m.Peer),
			Hello:    string(m.Hello),
			TLS:      m.TLS,
		},
		Attempts:   max(m.Attempts, 0),
		LastError:  string(m.LastError),
		Skip:       m.Skip,
		Quarantine: string(m.Quarantine),
	}}
	if r.Envelope.MailFrom == "<>" {
		r.Envelope.MailFrom = ""
	}
	if m.Prepend != "" {
		r.Prepend = []byte(m.Prepend)
	}
	r.NextAttempt, _ = m.NextAttempt.time()
	r.RequeuedAt, _ = m.RequeuedAt.time()
	var ok bool
	r.ReceivedAt, ok = m.ReceivedAt.time()
	r.badTime = !ok
	r.decodeSize(m)
	r.decodeRecipients(m)
	if len(m.Facts) > 0 {
		r.Facts = make(queue.Facts, len(m.Facts))
		for k, v := range m.Facts {
			r.Facts[k] = []byte(v)
		}
	}
	return r, r.checkRanges()
}

func (r *record) decodeSize(m *metaJSON) {
	if m.Size.known && m.Size.n >= 0 {
		r.Size, r.hasSize = m.Size.n, true
	}
	if crc, err := strconv.ParseUint(string(m.CRC32C), 16, 32); err == nil {
		r.crc, r.hasCRC = uint32(crc), true
	}
}

func (r *record) decodeRecipients(m *metaJSON) {
	params := make(map[string]queue.Recipient)
	if m.DSN != nil {
		r.Envelope.Ret, r.Envelope.EnvID = string(m.DSN.Ret), string(m.DSN.EnvID)
		for _, p := range m.DSN.Rcpt {
			a := string(p.Rcpt)
			params[a] = queue.Recipient{Address: a, Notify: string(p.Notify), ORcpt: string(p.ORcpt)}
		}
	}
	seen := make(map[string]bool, len(m.RcptTo))
	for _, a := range m.RcptTo {
		if seen[string(a)] || a == "" {
			continue
		}
		seen[string(a)] = true
		to := params[string(a)]
		to.Address = string(a)
		r.Envelope.RcptTo = append(r.Envelope.RcptTo, to)
	}
	for _, o := range m.Settled {
		r.Settled = append(r.Settled, queue.Outcome{Recipient: string(o.Rcpt), Rejected: string(o.Rejected)})
		r.keepParams(params[string(o.Rcpt)])
	}
}

// checkRanges guards the readers of the text against a skip list that leads
// outside of it.
func (r *record) checkRanges() error {
	if err := checkSkip(r.Skip, r.Size); r.hasSize && err != nil {
		return fmt.Errorf("meta.json: %w", err)
	}
	return nil
}

func checkSkip(skip []queue.Range, size int64) error {
	var end int64
	for _, s := range skip {
		if s.Start < end || s.End < s.Start || s.End > size {
			return fmt.Errorf("skip range %d to %d does not fit a text of %d octets", s.Start, s.End, size)
		}
		end = s.End
	}
	return nil
}
