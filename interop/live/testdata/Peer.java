import java.io.*;
import java.net.*;
import java.nio.file.*;
import java.security.*;
import java.security.cert.*;
import java.security.spec.*;
import java.util.*;
import javax.net.ssl.*;

/** JSSE as a TLS peer of the tests: one line of standard input is one connection, as script_test.go describes. */
public class Peer {
    public static void main(String[] args) throws Exception {
        System.out.println("version=" + System.getProperty("java.version"));
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = in.readLine()) != null;) {
            Map<String, String> call = new HashMap<>();
            for (String word : line.split("\t")) call.put(word.split("=", 2)[0], word.split("=", 2)[1]);
            Map<String, String> said = new TreeMap<>();
            try {
                if (call.get("role").equals("client")) client(call, said);
                else server(call, said);
            } catch (Exception e) {
                said.put("error", e.toString().replaceAll("\\s+", " "));
            }
            StringBuilder out = new StringBuilder("result");
            said.forEach((k, v) -> out.append("\t" + k + "=" + v));
            System.out.println(out);
        }
    }

    static X509Certificate certificate(String file) throws Exception {
        try (InputStream in = new FileInputStream(file)) {
            return (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(in);
        }
    }

    static PrivateKey key(String file) throws Exception {
        String pem = Files.readString(Path.of(file)).replaceAll("-----[^-]*-----|\\s", "");
        return KeyFactory.getInstance("RSA").generatePrivate(new PKCS8EncodedKeySpec(Base64.getDecoder().decode(pem)));
    }

    static SSLContext context(Map<String, String> call) throws Exception {
        KeyManager[] keys = null;
        if (call.containsKey("crt")) {
            X509Certificate own = certificate(call.get("crt"));
            X509Certificate[] chain = call.containsKey("chain") ? new X509Certificate[] {own, certificate(call.get("chain"))} : new X509Certificate[] {own};
            PrivateKey key = key(call.get("key"));
            keys = new KeyManager[] {new X509ExtendedKeyManager() { // shows it whatever CAs the other side names
                public String[] getClientAliases(String type, Principal[] issuers) { return new String[] {"it"}; }
                public String chooseClientAlias(String[] types, Principal[] issuers, Socket s) { return "it"; }
                public String[] getServerAliases(String type, Principal[] issuers) { return new String[] {"it"}; }
                public String chooseServerAlias(String type, Principal[] issuers, Socket s) { return type.startsWith("RSA") || type.equals("UNKNOWN") ? "it" : null; }
                public X509Certificate[] getCertificateChain(String alias) { return chain; }
                public PrivateKey getPrivateKey(String alias) { return key; }
            }};
        }
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null, null);
        trusted.setCertificateEntry("ca", certificate(call.get("ca")));
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        if (call.containsKey("status")) { // the stapled response decides; nothing is fetched
            PKIXBuilderParameters params = new PKIXBuilderParameters(trusted, new X509CertSelector());
            PKIXRevocationChecker checker = (PKIXRevocationChecker) CertPathBuilder.getInstance("PKIX").getRevocationChecker();
            checker.setOptions(EnumSet.of(PKIXRevocationChecker.Option.ONLY_END_ENTITY, PKIXRevocationChecker.Option.NO_FALLBACK));
            params.addCertPathChecker(checker);
            trust.init(new CertPathTrustManagerParameters(params));
        } else if (call.containsKey("crl")) {
            PKIXBuilderParameters params = new PKIXBuilderParameters(trusted, new X509CertSelector());
            try (InputStream in = new FileInputStream(call.get("crl"))) {
                Collection<? extends CRL> crls = CertificateFactory.getInstance("X.509").generateCRLs(in);
                params.addCertStore(CertStore.getInstance("Collection", new CollectionCertStoreParameters(crls)));
            }
            params.setRevocationEnabled(true);
            trust.init(new CertPathTrustManagerParameters(params));
        } else {
            trust.init(trusted);
        }
        if (call.containsKey("staple")) System.setProperty("jdk.tls.stapling.responderURI", call.get("staple"));
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys, trust.getTrustManagers(), null);
        return context;
    }

    static void client(Map<String, String> call, Map<String, String> said) throws Exception {
        SSLSocketFactory factory = context(call).getSocketFactory();
        for (int i = 0; i < visits(call); i++) {
            try (SSLSocket socket = (SSLSocket) factory.createSocket()) {
                socket.connect(new InetSocketAddress(InetAddress.getByName("127.0.0.1"), Integer.parseInt(call.get("port"))));
                prepare(socket, call);
                SSLParameters params = socket.getSSLParameters();
                params.setServerNames(List.of(new SNIHostName(call.getOrDefault("name", "localhost"))));
                params.setEndpointIdentificationAlgorithm(call.containsKey("name") ? "HTTPS" : null);
                socket.setSSLParameters(params);
                socket.startHandshake();
                describe(socket, said);
                if (call.containsKey("again")) socket.startHandshake();
                socket.getOutputStream().write(Files.readAllBytes(Path.of(call.get("send"))));
                receive(socket, call, said);
                if (call.containsKey("close")) continue;
                socket.shutdownOutput();
                end(socket, said);
            }
        }
    }

    static void server(Map<String, String> call, Map<String, String> said) throws Exception {
        try (ServerSocket listener = new ServerSocket(0, 1, InetAddress.getByName("127.0.0.1"))) {
            SSLSocketFactory factory = context(call).getSocketFactory();
            System.out.println("port=" + listener.getLocalPort());
            for (int i = 0; i < visits(call); i++) {
                try (SSLSocket socket = (SSLSocket) factory.createSocket(listener.accept(), null, true)) {
                    socket.setUseClientMode(false);
                    prepare(socket, call);
                    socket.setNeedClientAuth(call.containsKey("ask"));
                    socket.startHandshake();
                    describe(socket, said);
                    if (call.containsKey("again")) socket.startHandshake();
                    receive(socket, call, said);
                    socket.getOutputStream().write(Files.readAllBytes(Path.of(call.get("send"))));
                    if (call.containsKey("close")) continue;
                    end(socket, said);
                }
            }
        }
    }

    static int visits(Map<String, String> call) {
        return Integer.parseInt(call.getOrDefault("visits", "1"));
    }

    static void prepare(SSLSocket socket, Map<String, String> call) throws Exception {
        socket.setSoTimeout(30000);
        socket.setEnabledProtocols(new String[] {call.get("version")});
        if (call.containsKey("auth")) {
            socket.setEnabledCipherSuites(Arrays.stream(socket.getSupportedCipherSuites()).filter(s -> s.startsWith("TLS_ECDHE_" + call.get("auth"))).toArray(String[]::new));
        }
        SSLParameters params = socket.getSSLParameters();
        params.setApplicationProtocols(new String[] {"interop"});
        socket.setSSLParameters(params);
    }

    static void describe(SSLSocket socket, Map<String, String> said) {
        said.put("version", socket.getSession().getProtocol());
        said.put("cipher", socket.getSession().getCipherSuite());
        try {
            said.put("cert", ((X509Certificate) socket.getSession().getPeerCertificates()[0]).getSubjectX500Principal().getName());
        } catch (SSLPeerUnverifiedException e) {
            // no certificate
        }
    }

    static void receive(SSLSocket socket, Map<String, String> call, Map<String, String> said) throws Exception {
        byte[] got = socket.getInputStream().readNBytes(Integer.parseInt(call.get("want")));
        String sum = String.format("%064x", new java.math.BigInteger(1, MessageDigest.getInstance("SHA-256").digest(got)));
        if (!said.getOrDefault("sha256", sum).equals(sum)) said.put("error", "other data than in the connection before");
        said.put("sha256", sum);
    }

    static void end(SSLSocket socket, Map<String, String> said) throws Exception {
        if (socket.getInputStream().read() != -1) said.put("error", "more data");
        said.put("end", "orderly");
    }
}
