package mailparse

import (
	"strings"
	"testing"
)

func TestTheReplyIsWhatWasWrittenAnew(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ subject, text, reply, signature string }{
		"nothing quoted":      {"", "Hello\n\nthere", "Hello\n\nthere", ""},
		"on top":              {"", "Yes.\n\nOn Mon, Jan 5, 2026 at 9:00 AM Bob <bob@example.org> wrote:\n> at noon?\n", "Yes.", ""},
		"on top, three lines": {"", "Yes.\n\nOn Mon, Jan 5, 2026 at 9:00 AM Bob Longname\n<bob@example.org\n> wrote:\n\n> at noon?", "Yes.", ""},
		"on top, unmarked":    {"", "Yes.\n\nOn 5 Jan 2026, Bob wrote:\n\nat noon?\nBob", "Yes.", ""},
		"below":               {"", "On 5 Jan 2026, Bob wrote:\n> at noon?\n\nYes.", "Yes.", ""},
		"between":             {"", "Bob <bob@example.org> wrote:\n> at noon?\n\nYes.\n\n> where?\n\nThere.", "Yes.\n\n\nThere.", ""},
		"quotes alone":        {"", "> at noon?\n> where?", "", ""},
		"German":              {"", "Ja.\n\nAm 05.01.26 um 09:00 schrieb Bob:\n> Mittag?", "Ja.", ""},
		"French":              {"", "Oui.\n\nLe lun. 5 janv. 2026 à 09:00, Bob <bob@example.org> a écrit :\n> midi ?", "Oui.", ""},
		"Spanish":             {"", "Sí.\n\nEl lun, 5 ene 2026 a las 9:00, Bob (<bob@example.org>) escribió:\n> ¿?", "Sí.", ""},
		"Italian":             {"", "Sì.\n\nIl giorno lun 5 gen 2026 alle ore 09:00 Bob <bob@example.org> ha scritto:\n> ?", "Sì.", ""},
		"Portuguese":          {"", "Sim.\n\nEm seg., 5 de jan. de 2026 às 09:00, Bob <bob@example.org> escreveu:\n> ?", "Sim.", ""},
		"Dutch":               {"", "Ja.\n\nOp ma 5 jan 2026 om 09:00 schreef Bob <bob@example.org>:\n> ?", "Ja.", ""},
		"Swedish":             {"", "Ja.\n\nDen mån 5 jan. 2026 kl 09:00 skrev Bob <bob@example.org>:\n> ?", "Ja.", ""},
		"Polish":              {"", "Tak.\n\npon., 5 sty 2026 o 09:00 Bob <bob@example.org> napisał(a):\n> ?", "Tak.", ""},
		"Russian":             {"", "Да.\n\nпн, 5 янв. 2026 г. в 09:00, Bob <bob@example.org>:\n\n> ?\nпн, 5 янв. 2026 г. Bob <b@x> пишет:\n> ?", "Да.\n\nпн, 5 янв. 2026 г. в 09:00, Bob <bob@example.org>:", ""},
		"Chinese":             {"", "好。\n\n于2026年1月5日周一 09:00写道：\n> ?", "好。", ""},
		"Outlook":             {"", "Yes.\n\nFrom: Bob\nSent: Monday\nTo: Alice\nSubject: Lunch\n\nat noon?", "Yes.", ""},
		"Outlook, bold":       {"", "Yes.\n\n*From:* Bob\n*Sent:* Monday\n*To:* Alice\n\nat noon?", "Yes.", ""},
		"Outlook, a rule":     {"", "Yes.\n\n________________________________\nVon: Bob\nGesendet: Montag\nAn: Alice\n\nMittag?", "Yes.", ""},
		"Outlook, separator":  {"", "Yes.\n\n-----Ursprüngliche Nachricht-----\nVon: Bob\n\nMittag?", "Yes.", ""},
		"a forward of Outlook's": {"FW: Lunch", "See below.\n\nFrom: Bob\nSent: Monday\nTo: Alice\n\nat noon?",
			"See below.\n\nFrom: Bob\nSent: Monday\nTo: Alice\n\nat noon?", ""},
		"a signature":              {"", "Yes.\n-- \nAlice\nExample Ltd", "Yes.", "Alice\nExample Ltd"},
		"a signature, space lost":  {"", "Yes.\n--\nAlice", "Yes.", "Alice"},
		"no signature, much below": {"", "One\n--\n" + strings.Repeat("two\n", 13), "One\n--\n" + strings.TrimSpace(strings.Repeat("two\n", 13)), ""},
		"a signature above":        {"", "Yes.\n-- \nAlice\n\nOn 5 Jan 2026, Bob wrote:\n> at noon?\n> -- \n> Bob", "Yes.", "Alice"},
		"a telephone":              {"", "Yes.\n\nSent from my iPhone\n\nOn 5 Jan 2026, at 09:00, Bob wrote:\n\n> at noon?", "Yes.", "Sent from my iPhone"},
		"a telephone in German":    {"", "Ja.\n\nVon meinem iPhone gesendet", "Ja.", "Von meinem iPhone gesendet"},
		"he wrote, and no quote":   {"", "On the matter Bob wrote:\nnothing at all", "On the matter Bob wrote:\nnothing at all", ""},
		"from here on":             {"", "From: my point of view\nall is well", "From: my point of view\nall is well", ""},
	} {
		m := &Mail{Subject: c.subject, Text: c.text}
		if reply, signature := m.Reply(), m.Signature(); reply != c.reply || signature != c.signature {
			t.Errorf("%s: reply %q, signature %q; want %q, %q", name, reply, signature, c.reply, c.signature)
		}
	}
}

func TestTheReplyInHTMLIsWhatStandsOutsideOfMarkedQuotes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"<p>a</p>": "<p>a</p>",
		`<div>a</div><div class="x gmail_quote"><div>b</div></div><p>c</p>`:              "<div>a</div><p>c</p>",
		`<body>a<blockquote type="cite">b<blockquote>c</blockquote></blockquote></body>`: "<body>a</body>",
		`<body><div>a<div id="appendonsend"></div><p>b</p></div><p>c</p></body></html>`:  "<body><div>a</div></body>",
		`a<div class="gmail_quote">---------- Forwarded message ---------<br>b</div>`:    `a<div class="gmail_quote">---------- Forwarded message ---------<br>b</div>`,
		`a<blockquote>b</blockquote>`: `a<blockquote>b</blockquote>`,
		`a<div class="gmail_quote">b`: `a`,
	} {
		if got := stripHTML(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	m := &Mail{Text: "a\nb", TextFromHTML: true, HTML: `<p>a</p><div class="yahoo_quoted">b</div>`}
	if m.Reply() != "a" {
		t.Errorf("reply %q", m.Reply())
	}
}

func TestHTMLIsLaidOutAsText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a<br>b<p>c</p>d":                      "a\nb\n\nc\n\nd",
		"a\n  b&nbsp;&lt;c&gt;":                "a b <c>",
		"<pre>a\n  b</pre>c":                   "a\n  b\nc",
		"x<blockquote>a<br>b</blockquote>c":    "x\n> a\n> b\nc",
		"<ul><li>a</li><li>b</li></ul>":        "- a\n- b",
		"<title>t</title><style>s</style>a":    "a",
		"</blockquote></pre>a":                 "a",
		"<b>a</b><i>b</i> c":                   "ab c",
		"<table><tr><td>a<td>b<tr><td>c":       "a b\nc",
		"a<img alt='b c' src=x>d<img src=y>":   "a b c d",
		"a<p><p><p>b<br><br><br><br><br><br>c": "a\n\nb\n\nc",
	} {
		if got := htmlText(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
