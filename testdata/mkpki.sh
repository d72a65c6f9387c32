#!/bin/bash
# Builds the PKI of the tests: mkpki.sh [DIR], default pki beside this script. An older PKI in DIR is replaced when the new one is complete.
# Needs openssl >= 3.0 and python3-cryptography (for encodings of names that the command line cannot make). See README.md.
set -eu
TARGET=$(realpath -m "${1:-$(dirname "$0")/pki}")
if [ -e "$TARGET" ] && [ ! -e "$TARGET/root.crt" ] && [ -n "$(ls -A "$TARGET")" ]; then
  echo "$TARGET exists, and is not a PKI of this script" >&2; exit 1
fi
mkdir -p "$(dirname "$TARGET")"
P=$(mktemp -d "$TARGET.new.XXXXXX"); chmod 755 "$P"; cd "$P"
trap 'rm -rf "$P"' EXIT
export OPENSSL_CONF=$P/ca.cnf
cat > ca.cnf <<CNF
openssl_conf = init
[init]
[req]
distinguished_name = dn
string_mask = utf8only
utf8 = yes
prompt = no
[dn]
[ca]
default_ca = root
[root]
dir = $P
database = $P/root.idx
new_certs_dir = $P/new
serial = $P/root.srl
crlnumber = $P/root.crlnum
certificate = $P/root.crt
private_key = $P/root.key
default_md = sha256
policy = any
unique_subject = no
email_in_dn = yes
copy_extensions = none
default_days = 3650
default_crl_days = 3650
[inter]
dir = $P
database = $P/inter.idx
new_certs_dir = $P/new
serial = $P/inter.srl
crlnumber = $P/inter.crlnum
certificate = $P/inter.crt
private_key = $P/inter.key
default_md = sha256
policy = any
unique_subject = no
default_crl_days = 3650
default_days = 3650
[other]
dir = $P
database = $P/other.idx
new_certs_dir = $P/new
serial = $P/other.srl
crlnumber = $P/other.crlnum
certificate = $P/other.crt
private_key = $P/other.key
default_md = sha256
policy = any
unique_subject = no
default_crl_days = 3650
default_days = 3650
[any]
countryName = optional
stateOrProvinceName = optional
localityName = optional
organizationName = optional
organizationalUnitName = optional
commonName = optional
serialNumber = optional
emailAddress = optional
userId = optional
[v3_ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[v3_inter]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[v3_server]
basicConstraints = CA:FALSE
keyUsage = digitalSignature,keyEncipherment
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost,DNS:server.test,IP:127.0.0.1
[v3_client]
basicConstraints = CA:FALSE
keyUsage = digitalSignature
extendedKeyUsage = clientAuth
[v3_srvonly]
basicConstraints = CA:FALSE
extendedKeyUsage = serverAuth
CNF
mkdir new
for i in root inter other; do : > $i.idx; echo 01 > $i.crlnum; echo 1000 > $i.srl; done
q() { "$@" >>mkpki.log 2>&1 || { echo "FAILED: $*" >&2; tail -5 mkpki.log >&2; exit 1; }; }
rsa()  { q openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:${2:-2048} -out $1.key; }
ec()   { q openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:${2:-P-256} -out $1.key; }
ed()   { q openssl genpkey -algorithm ${2:-ED25519} -out $1.key; }
self() { # name subj serial ext
  q openssl req -new -x509 -sha256 -key $1.key -subj "$2" -set_serial $3 -days 10000 -extensions $4 -out $1.crt; }
# sign NAME CA SUBJ SERIAL EXT [START END]   (openssl ca: records in the index, exact dates)
sign() {
  local start=${6:-20200101000000Z} end=${7:-20491231235959Z}
  q openssl req -new -sha256 -utf8 -key $1.key -subj "$3" -out $1.csr
  echo "$4" > $2.srl
  q openssl ca -batch -notext -name $2 -extensions $5 -startdate $start -enddate $end -preserveDN -utf8 -in $1.csr -out $1.crt
}
sign_x() { # NAME CA SUBJ SERIAL(any, x509 -set_serial) EXT  (not recorded in the index)
  q openssl req -new -sha256 -utf8 -key $1.key -subj "$3" -out $1.csr
  q openssl x509 -req -sha256 -in $1.csr -CA $2.crt -CAkey $2.key -set_serial $4 -days 8000 -extfile ca.cnf -extensions $5 -out $1.crt
}
# --- CAs
rsa root;  self root  "/C=DE/O=Oracle Test/CN=Oracle Root CA" 0x0A v3_ca
rsa other; self other "/C=DE/O=Other Org/CN=Unknown CA" 0x0B v3_ca
rsa inter; sign inter root "/C=DE/O=Oracle Test/CN=Oracle Intermediate CA" 0C v3_inter
ec  ecroot; self ecroot "/C=DE/O=Oracle Test/CN=Oracle EC Root" 0x0D v3_ca
# --- server certificates
rsa server;        sign server root "/C=DE/O=Oracle Test/CN=localhost" 1001 v3_server
ec  server-ec;     sign server-ec root "/C=DE/O=Oracle Test/CN=localhost" 1002 v3_server
ed  server-ed25519; sign server-ed25519 root "/C=DE/O=Oracle Test/CN=localhost" 1003 v3_server
rsa server-1024 1024; sign server-1024 root "/C=DE/O=Oracle Test/CN=localhost" 1004 v3_server
rsa server-inter;  sign server-inter inter "/C=DE/O=Oracle Test/CN=localhost" 1005 v3_server
rsa server-expired; sign server-expired root "/C=DE/O=Oracle Test/CN=localhost" 1006 v3_server 20200101000000Z 20210101000000Z
rsa server-selfsigned; self server-selfsigned "/CN=localhost" 0x1007 v3_server
rsa server-unknown; sign server-unknown other "/C=DE/CN=localhost" 1008 v3_server
ec server-ec-root; sign_x server-ec-root ecroot "/C=DE/CN=localhost" 0x1009 v3_server
rsa server-wronghost; sign server-wronghost root "/C=DE/O=Oracle Test/CN=evil.example" 100A v3_client
rsa server-sha1; q openssl req -new -key server-sha1.key -subj "/C=DE/CN=localhost" -out server-sha1.csr
q openssl x509 -req -sha1 -in server-sha1.csr -CA root.crt -CAkey root.key -set_serial 0x100B -days 8000 -extfile ca.cnf -extensions v3_server -out server-sha1.crt
cat server-inter.crt inter.crt root.crt > chain.pem           # as the man page says: leaf, intermediate, ca
cat server-inter.key server-inter.crt inter.crt > chain-with-key.pem
cat server.crt server.key > server-combined.pem
openssl pkcs8 -in server.key -topk8 -passout pass:secret -out server-enc.key 2>>mkpki.log
openssl rsa -in server.key -traditional -out server-pkcs1.key 2>>mkpki.log
openssl x509 -in server.crt -outform DER -out server.der
openssl pkey -in server.key -outform DER -out server-key.der
openssl x509 -in server.crt -text > server-text.crt
head -c 300 server.crt > server-trunc.crt
printf 'this is not a PEM file\n' > garbage.pem
: > empty.pem
# --- client certificates
S="/C=DE/O=Oracle Test"
rsa client; K=client.key
k() { cp $K $1.key; }                                          # one RSA key for all clients: keygen is slow
sign client root "$S/CN=client valid" 2001 v3_client
k client-inter;   sign client-inter inter "$S/CN=client via intermediate" 2002 v3_client
cat client-inter.crt inter.crt > client-inter-chain.pem
for i in 2 3; do rsa inter$i; done
sign_x inter2 inter "/C=DE/O=Oracle Test/CN=Oracle Intermediate CA 2" 0x3002 v3_inter
sign_x inter3 inter2 "/C=DE/O=Oracle Test/CN=Oracle Intermediate CA 3" 0x3003 v3_inter
k client-deep; sign_x client-deep inter3 "$S/CN=client below three intermediates" 0x3004 v3_client
cat client-deep.crt inter3.crt inter2.crt inter.crt > client-deep-chain.pem
k client-expired; sign client-expired root "$S/CN=client expired" 2003 v3_client 20200101000000Z 20210101000000Z
k client-notyet;  sign client-notyet root "$S/CN=client not yet valid" 2004 v3_client 20480101000000Z 20491231235959Z
k client-self;    self client-self "$S/CN=client self-signed" 0x2005 v3_client
k client-unknown; sign client-unknown other "$S/CN=client of unknown CA" 2006 v3_client
k client-revoked; sign client-revoked root "$S/CN=client revoked" 2007 v3_client
k client-srvonly; sign client-srvonly root "$S/CN=client with serverAuth only" 2008 v3_srvonly
k client-ser20;   sign client-ser20 root "$S/CN=client serial 20 bytes" F123456789ABCDEF00112233445566778899AABB v3_client
k client-ser0;    sign_x client-ser0 root "$S/CN=client serial 0" 0 v3_client
k client-ser1;    sign_x client-ser1 root "$S/CN=client serial 1" 1 v3_client
k client-ser30;   sign client-ser30 root "$S/CN=client serial 0x30" 30 v3_client
k client-ser80;   sign client-ser80 root "$S/CN=client serial 0x80" 80 v3_client
k client-serneg;  sign_x client-serneg root "$S/CN=client serial minus 5" -5 v3_client
k client-sernegbig; sign_x client-sernegbig root "$S/CN=client serial negative" -0x8001 v3_client
k client-ser5;    sign client-ser5 root "$S/CN=client serial 5" 05 v3_client
k client-nulA;    sign client-nulA root "$S/CN=client serial 0100AA" 0100AA v3_client
k client-nulB;    sign client-nulB root "$S/CN=client serial 0100BB" 0100BB v3_client
k client-cabad;   sign client-cabad root "$S/CN=client same serial as a cert of other CA" 7777 v3_client
k other-7777;     sign other-7777 other "/C=DE/O=Other Org/CN=other 7777" 7777 v3_client
k client-utf8;    sign client-utf8 root "/C=DE/O=Prüfstelle GmbH/CN=Jörg Müller 日本 €" 2010 v3_client
k client-quotes;  sign client-quotes root '/C=DE/O=O "quoted", Inc./CN=a\/b\+c=d;e<f>\\g' 2011 v3_client
k client-multi;   sign client-multi root '/C=DE/O=Oracle Test+OU=Multi RDN/CN=multi+UID=u123+emailAddress=m@example.org' 2012 v3_client
k client-mail;    sign client-mail root "/C=DE/ST=NRW/L=Köln/O=Oracle Test/OU=A/OU=B/CN=mail/emailAddress=joe@example.org" 2013 v3_client
k client-empty;   q openssl req -new -sha256 -key client.key -subj "/" -out client-empty.csr
q openssl x509 -req -sha256 -in client-empty.csr -CA root.crt -CAkey root.key -set_serial 0x2014 -days 8000 -extfile ca.cnf -extensions v3_client -out client-empty.crt
ec client-ec;     sign client-ec root "$S/CN=client EC" 2020 v3_client
ed client-ed25519; sign client-ed25519 root "$S/CN=client Ed25519" 2021 v3_client
cat client.crt client.key > client-combined.pem
# --- CRLs of the root (openssl ca index driven)
gen() { q openssl ca -gencrl -name root -out $1 "${@:2}"; }
gen crl-empty.pem
q openssl ca -name root -revoke client-revoked.crt
gen crl.pem
openssl crl -in crl.pem -outform DER -out crl.der
q openssl crl -in crl.pem -text -out crl-text.pem
q openssl ca -name root -revoke client-nulB.crt -crl_reason keyCompromise
gen crl-nulB.pem
q openssl ca -name root -revoke client-ser30.crt
gen crl-30.pem
q openssl ca -name root -revoke client-ser20.crt
q openssl ca -name root -revoke client-ser5.crt
q openssl ca -name root -revoke inter.crt
gen crl-all.pem
gen crl-expired.pem -crl_lastupdate 20200101000000Z -crl_nextupdate 20200201000000Z
q openssl ca -name other -revoke other-7777.crt
q openssl ca -gencrl -name other -out crl-other.pem
q openssl ca -gencrl -name inter -out crl-inter-empty.pem
cat crl-other.pem crl.pem > crl-multi-other-first.pem
cat crl.pem crl-other.pem > crl-multi-root-first.pem
cat root.crt crl.pem > crl-after-cert.pem
printf 'garbage\n' > crl-garbage.pem
: > crl-zero.pem
head -c 200 crl.pem > crl-trunc.pem
openssl crl -in crl.pem -outform DER -out crl-badsig.der            # flip the last byte: CRL with an invalid signature
python3 -c "b=bytearray(open('crl-badsig.der','rb').read()); b[-1]^=1; open('crl-badsig.der','wb').write(bytes(b))"
q openssl crl -inform DER -in crl-badsig.der -out crl-badsig.pem; rm crl-badsig.der
# --- DH parameters
openssl dhparam -out dh512.pem 512 2>/dev/null >/dev/null
openssl dhparam -out dh1024.pem 1024 2>/dev/null >/dev/null
q openssl genpkey -genparam -algorithm DH -pkeyopt group:ffdhe2048 -out dh2048.pem
q openssl genpkey -genparam -algorithm DH -pkeyopt group:ffdhe3072 -out dh3072.pem
q openssl genpkey -genparam -algorithm DHX -pkeyopt group:dh_2048_256 -out dhx2048.pem
# --- multi CA files
cat root.crt other.crt > ca-both.pem
cat other.crt root.crt > ca-both-rev.pem
rm -f *.csr; rm -rf new
cat > odd.py <<'PY'
# odd DN encodings the CLI cannot make
import datetime
from cryptography import x509
from cryptography.x509.oid import NameOID, ObjectIdentifier
from cryptography.x509.name import _ASN1Type as T
from cryptography.hazmat.primitives import hashes, serialization as s
root=x509.load_pem_x509_certificate(open('root.crt','rb').read())
rk=s.load_pem_private_key(open('root.key','rb').read(),None)
ck=s.load_pem_private_key(open('client.key','rb').read(),None)
def mk(name,attrs,serial):
    n=x509.Name([x509.NameAttribute(o,v,_type=t,_validate=False) for o,v,t in attrs])
    c=(x509.CertificateBuilder().subject_name(n).issuer_name(root.subject).public_key(ck.public_key())
       .serial_number(serial).not_valid_before(datetime.datetime(2020,1,1)).not_valid_after(datetime.datetime(2049,1,1))
       .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]),False)
       .sign(rk,hashes.SHA256()))
    open(name+'.crt','wb').write(c.public_bytes(s.Encoding.PEM))
    open(name+'.key','wb').write(open('client.key','rb').read())
mk('client-bmp',[(NameOID.COUNTRY_NAME,'DE',T.PrintableString),(NameOID.COMMON_NAME,'BMP Jörg €',T.BMPString)],0x2030)
mk('client-t61',[(NameOID.COMMON_NAME,'T61 J\u00f6rg',T.T61String)],0x2031) if hasattr(T,'T61String') else None
mk('client-nulcn',[(NameOID.COMMON_NAME,'good.example\x00.evil.example',T.UTF8String)],0x2032)
mk('client-ctl',[(NameOID.COMMON_NAME,'line1\nline2\ttab\x7fdel',T.UTF8String)],0x2033)
mk('client-oid',[(ObjectIdentifier('1.2.3.4.5.6.7'),'unknown oid',T.UTF8String),(NameOID.COMMON_NAME,'x',T.UTF8String)],0x2034)
mk('client-long',[(NameOID.COMMON_NAME,'L'*2000,T.UTF8String)],0x2035)
mk('client-slash',[(NameOID.COMMON_NAME,'a/O=Fake Org/CN=admin',T.UTF8String)],0x2036)
PY
python3 -W ignore odd.py && rm odd.py
# --- remove files that only openssl ca needs, and the configuration, which contains the folder's name
rm -rf -- *.idx* *.srl* *.crlnum* *.csr mkpki.log ca.cnf new
rm -rf "$TARGET"; mv "$P" "$TARGET"
