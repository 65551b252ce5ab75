"""Sends one message, as the job on standard input says, and ends with 1 when it was not taken."""
import json, smtplib, ssl, sys

job = json.load(sys.stdin)
with open(job["file"], "rb") as f:
    text = f.read()
context = ssl.create_default_context(cafile=job["ca"] or None)
options = {"local_hostname": "client.example.net", "timeout": 60}
if job["tls"].startswith("lmtp"):
    client = smtplib.LMTP(job["host"], job["port"], local_hostname="client.example.net")
elif job["tls"] == "implicit":
    client = smtplib.SMTP_SSL(job["host"], job["port"], context=context, **options)
else:
    client = smtplib.SMTP(job["host"], job["port"], **options)
with client:
    if job["tls"] == "starttls":
        client.starttls(context=context)
    client.ehlo()
    params = ["BODY=8BITMIME"] + (["SMTPUTF8"] if job["utf8"] else [])
    refused = client.sendmail(job["from"], job["to"], text, mail_options=params)
    if job["tls"].startswith("lmtp"):  # smtplib reads the reply for the first recipient only
        for to in job["to"][1:]:
            code, reply = client.getreply()
            if code != 250:
                refused[to] = (code, reply)
    if refused:
        sys.exit("refused: %r" % refused)
