package mailparse

import (
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Reply is what the sender wrote anew: Text without the history that it quotes
// and without the signature. It goes by the marks that common programs set, in
// several languages, and is therefore a guess; Text is always whole. What is
// forwarded is no history. Answers between quoted lines are kept, the quoted
// lines are not. It is "" when nothing new was written.
func (m *Mail) Reply() string { return m.answered().text }

// Signature is the signature that Reply leaves out; "" when none was found.
func (m *Mail) Signature() string { return m.answered().signature }

// ReplyHTML is HTML without the history that it quotes, as far as the program that
// wrote it marks that; the signature stays.
func (m *Mail) ReplyHTML() string { return m.answered().html }

// answer is what was written anew.
type answer struct {
	once                  sync.Once
	text, signature, html string
}

// answered finds it, once.
func (m *Mail) answered() *answer {
	m.answer.once.Do(func() {
		text := m.Text
		m.answer.html = stripHTML(m.HTML)
		if m.TextFromHTML {
			text = htmlText(m.answer.html)
		}
		m.answer.text, m.answer.signature = splitReply(text, forwardSubject.MatchString(m.Subject))
	})
	return &m.answer
}

// maxLine is the octets of a line that are looked at, maxLines how many lines are
// looked at for more than a ">"; lines beyond are kept.
const (
	maxLine  = 1000
	maxLines = 5000
)

// splitReply takes text apart. forward says that it is one: then what looks like
// a letter's header is what is forwarded.
func splitReply(text string, forward bool) (reply, signature string) {
	lines := strings.Split(strings.TrimRight(text, " \t\n"), "\n")
	var kept []string
	looked := 0
	for i := 0; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i][:min(len(lines[i]), maxLine)])
		switch {
		case strings.HasPrefix(line, ">"):
			continue
		case line == "" || looked == maxLines:
			kept = append(kept, lines[i])
			continue
		case forwarded.MatchString(line):
			kept = append(kept, lines[i:]...)
			return strings.Trim(strings.Join(kept, "\n"), " \t\n"), ""
		case original.MatchString(line), !forward && headerBlock(lines[i:]):
			for len(kept) > 0 && strings.Trim(kept[len(kept)-1], "_ \t") == "" {
				kept = kept[:len(kept)-1] // the rule above it
			}
			i = len(lines)
			continue
		}
		looked++
		n := attribution(lines[i:])
		if n == 0 {
			kept = append(kept, lines[i])
			continue
		}
		if !quotes(lines[i+n:]) {
			break // history without marks goes on to the end
		}
		i += n - 1
	}
	body, sig := cutSignature(kept)
	return strings.Trim(strings.Join(body, "\n"), " \t\n"), strings.Trim(strings.Join(sig, "\n"), " \t\n")
}

// quotes: the next line that is not empty is quoted.
func quotes(lines []string) bool {
	for _, line := range lines {
		if line = strings.TrimSpace(line); line != "" {
			return strings.HasPrefix(line, ">")
		}
	}
	return false
}

var (
	forwardSubject = regexp.MustCompile(`(?i)^\s*(fwd?|wg|tr|rv|enc|vs|vb|i|doorst)\s*:`)

	forwarded = regexp.MustCompile(`(?i)(-{2,}|_{2,})\s*(forwarded message|weitergeleitete nachricht|message transféré|mensaje reenviado|` +
		`messaggio inoltrato|mensagem encaminhada|doorgestuurd bericht|vidarebefordrat meddelande|videresendt besked|` +
		`wiadomość przekazana|пересылаемое сообщение|转发的邮件|轉寄郵件|転送メッセージ)|^begin forwarded message:`)

	original = regexp.MustCompile(`(?i)^\s*[-_]{2,}\s*(original message|original appointment|ursprüngliche nachricht|original-?nachricht|` +
		`message d.origine|message original|mensaje original|messaggio originale|mensagem original|oorspronkelijk bericht|` +
		`ursprungligt meddelande|oprindelig meddelelse|opprinnelig melding|alkuperäinen viesti|wiadomość oryginalna|původní zpráva|` +
		`исходное сообщение|orijinal mesaj|原始邮件|原始郵件|元のメッセージ|원본 메일|원본 메시지)\s*[-_]{2,}\s*$`)

	// wrote is how the line above a quote ends.
	wrote = regexp.MustCompile(`(?i)(?:^|[\s\d>)\]])(wrote|schrieb|schrieben|a écrit|ha escrito|escribió|ha scritto|escreveu|schreef|skrev|` +
		`kirjoitti|napisał|napisała|napisał\(a\)|pisze|napsal|napsala|napsal\(a\)|пишет|написал|написала|пише|yazdı|schreibt)` +
		`[^:：]{0,200}[:：]\s*$|(写道|寫道|のメール|님이 작성|작성)\s*[:：]\s*$`)

	// began is how it begins.
	began = regexp.MustCompile(`(?i)^(on|am|le|el|il|em|a|no dia|op|den|på|pe|w dniu|dnia|dne|в|у|在|于|mon|tue|wed|thu|fri|sat|sun|\d{1,4})[\s,.:/年-]|` +
		`^(在|于)|^\d`)

	from = regexp.MustCompile(`(?i)^\*?(from|von|de|da|van|från|fra|lähettäjä|od|от|від|kimden|差出人|发件人|寄件者|보낸 사람)\s?[:：]\*?\s*\S`)

	others = regexp.MustCompile(`(?i)^\*?(sent|date|to|cc|subject|gesendet|datum|an|betreff|envoyé|à|objet|enviado( el)?|enviada em|fecha|para|asunto|` +
		`assunto|inviato|data|a|oggetto|verzonden|aan|onderwerp|skickat|till|ämne|sendt|til|emne|lähetetty|vastaanottaja|aihe|wysłano|do|` +
		`temat|odesláno|komu|předmět|отправлено|дата|кому|тема|надіслано|gönderildi|tarih|kime|konu|送信日時|日時|宛先|件名|发送时间|` +
		`收件人|主题|寄件日期|收件者|主旨|보낸 날짜|받는 사람|제목)\s?[:：]`)

	mobile = regexp.MustCompile(`(?i)^(sent from (my|outlook|mail|yahoo|proton)|get outlook for|von meinem .{1,40} gesendet|gesendet (von|mit)|` +
		`envoyé de(puis)? |enviado (desde|do|a partir) |inviato da|verzonden (vanaf|met|van)|skickat från|sendt fra|lähetetty |wysłane z|` +
		`odesláno z|отправлено (с|из)|надіслано з|iphone.{0,20}から送信|发自我的|從我的.{1,20}傳送|나의 .{1,20}에서 보냄)`)

	digit = regexp.MustCompile(`\d`)
)

// attribution is how many lines at the start of lines say who wrote what is
// quoted below: "On … wrote:", on up to three lines; 0 when none does.
func attribution(lines []string) int {
	lines = lines[:min(len(lines), 3)]
	if !slices.ContainsFunc(lines, endsWithColon) {
		return 0
	}
	joined := ""
	for n, line := range lines {
		line = strings.TrimSpace(line)
		if line == "" || len(line) > 300 {
			return 0
		}
		joined = strings.TrimSpace(joined + " " + line)
		if n == 0 && !began.MatchString(joined) && !strings.Contains(joined, "@") && !strings.HasSuffix(joined, ":") {
			return 0
		}
		if endsWithColon(line) && wrote.MatchString(joined) {
			if strings.Contains(joined, "@") || began.MatchString(joined) && digit.MatchString(joined) {
				return n + 1
			}
			return 0
		}
	}
	return 0
}

func endsWithColon(line string) bool {
	line = strings.TrimRight(line, " \t")
	return strings.HasSuffix(line, ":") || strings.HasSuffix(line, "：")
}

// headerBlock: the lines are a letter's header as Outlook repeats it.
func headerBlock(lines []string) bool {
	if !strings.ContainsAny(lines[0], ":：") || !from.MatchString(strings.TrimSpace(lines[0][:min(len(lines[0]), maxLine)])) {
		return false
	}
	found := 0
	for _, line := range lines[1:min(len(lines), 7)] {
		if others.MatchString(strings.TrimSpace(line[:min(len(line), maxLine)])) {
			found++
		}
	}
	return found >= 2
}

// maxSignature is how many lines follow a mark that has lost its space.
const maxSignature = 12

// cutSignature finds the signature: behind "-- " (RFC 3676 §4.3), or the last
// line where that says which device it was sent from.
func cutSignature(lines []string) (body, signature []string) {
	for len(lines) > 0 && strings.TrimSpace(lines[len(lines)-1]) == "" {
		lines = lines[:len(lines)-1]
	}
	for i, line := range lines {
		if strings.TrimRight(line, " ") == "--" && (len(line) > len("--") || len(lines)-i-1 <= maxSignature) {
			return lines[:i], lines[i+1:]
		}
	}
	if n := len(lines); n > 0 {
		last := strings.TrimSpace(lines[n-1])
		if len(last) < 100 && mobile.MatchString(last) {
			return lines[:n-1], lines[n-1:]
		}
	}
	return lines, nil
}
