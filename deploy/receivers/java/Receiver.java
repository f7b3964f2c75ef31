import com.sun.net.httpserver.*;
import java.io.*;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.security.*;
import java.security.spec.X509EncodedKeySpec;
import java.util.*;
import java.util.concurrent.*;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/**
 * Receives stepup's webhooks: {@code java Receiver.java KEYS}, at http://127.0.0.1:9090/ (PORT is another port). KEYS has what
 * verifies, a whsec_ or whpk_ a line; in a rotation the old and the new. It needs a JDK of 17 or later and nothing else.
 */
public final class Receiver {
    static final int MAX_BODY = 64 * 1024;
    static final long TOLERANCE = 5 * 60; // seconds, around the timestamp
    static final List<Key> keys = new ArrayList<>();
    static final Set<String> kept = ConcurrentHashMap.newKeySet(); // your database: a unique key over data.id and type

    interface Key {
        boolean made(String signature, byte[] signed) throws GeneralSecurityException;
    }

    static Key key(String line) throws GeneralSecurityException {
        if (line.startsWith("whsec_")) return v1(Base64.getDecoder().decode(line.substring(6)));
        if (line.startsWith("whpk_")) return v1a(Base64.getDecoder().decode(line.substring(5)));
        throw new IllegalArgumentException("a line must begin with whsec_ or whpk_");
    }

    /** HMAC-SHA256 by a secret that the sender has too. */
    static Key v1(byte[] secret) {
        return (signature, signed) -> {
            var mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(secret, "HmacSHA256"));
            var want = "v1," + Base64.getEncoder().encodeToString(mac.doFinal(signed));
            return MessageDigest.isEqual(want.getBytes(), signature.getBytes()); // in constant time
        };
    }

    /** Ed25519 by a key that only the sender holds. */
    static Key v1a(byte[] key) throws GeneralSecurityException {
        var spki = HexFormat.of().parseHex("302a300506032b6570032100" + HexFormat.of().formatHex(key)); // RFC 8410
        var publicKey = KeyFactory.getInstance("Ed25519").generatePublic(new X509EncodedKeySpec(spki));
        return (signature, signed) -> {
            if (!signature.matches("v1a,[A-Za-z0-9+/]{86}==")) return false;
            var verifier = Signature.getInstance("Ed25519");
            verifier.initVerify(publicKey);
            verifier.update(signed);
            return verifier.verify(Base64.getDecoder().decode(signature.substring(4)));
        };
    }

    static boolean verified(Headers headers, byte[] body) {
        for (var name : List.of("webhook-id", "webhook-timestamp", "webhook-signature")) {
            if (headers.getOrDefault(name, List.of()).size() != 1) return false;
        }
        var timestamp = headers.getFirst("webhook-timestamp");
        if (!timestamp.matches("[0-9]{1,12}")) return false;
        if (Math.abs(System.currentTimeMillis() / 1000 - Long.parseLong(timestamp)) > TOLERANCE) return false;
        var signed = new ByteArrayOutputStream();
        signed.writeBytes((headers.getFirst("webhook-id") + "." + timestamp + ".").getBytes(StandardCharsets.UTF_8));
        signed.writeBytes(body);
        for (var signature : headers.getFirst("webhook-signature").split(" ")) {
            for (var key : keys) {
                try {
                    if (key.made(signature, signed.toByteArray())) return true;
                } catch (GeneralSecurityException e) {
                    // malformed; another one may be good
                }
            }
        }
        return false;
    }

    /** Stores an event, once. Answer 2xx only after it has returned. */
    static void keep(Map<String, String> event) {
        if (!event.get("type").startsWith("step_up.")) return; // endpoint.test
        // The same event comes again until it is answered, and once from each of your webhooks: webhook-id would not tell.
        var key = event.get("data.id") + " " + event.get("type");
        if (kept.add(key)) System.out.println(key + " " + decide(event)); // reference, metadata and identity: not into logs
    }

    /** Yours. The type decides, not data.status: an approval that came too late is step_up.delivery_expired, "approved". */
    static String decide(Map<String, String> event) {
        // denied, expired, cancelled and failed are no. So is unknown: the person may have said yes, but nobody can prove it.
        // After unknown and delivery_expired ask again, under a new Idempotency-Key.
        if (!event.get("type").equals("step_up.approved")) return "not approved";
        // `content: reference`: GET /v1/step-ups/{id}. `content: encrypted`: open data.encrypted with a JOSE library.
        if (!event.containsKey("data.identity.bound")) return "approved, fetch who";
        if (!event.get("data.identity.bound").equals("true")) return "approved, compare who"; // with the customer you meant
        return "approved";
    }

    static int receive(HttpExchange exchange) {
        try {
            var body = exchange.getRequestBody().readNBytes(MAX_BODY + 1); // what was signed: JSON written again has other bytes
            if (body.length > MAX_BODY) return 413;
            if (!verified(exchange.getRequestHeaders(), body)) return 401;
            keep(members(body));
            return 204; // only now: after 2xx it is not sent again
        } catch (IOException | RuntimeException e) {
            System.err.println("not kept: " + e.getClass().getName()); // its text may quote the event
            return 500; // it is sent again
        }
    }

    /** The members of a JSON object by their path, like data.id. In place of your JSON library, because the JDK has none. */
    static Map<String, String> members(byte[] json) throws IOException {
        var tokens = new StreamTokenizer(new StringReader(new String(json, StandardCharsets.UTF_8)));
        tokens.resetSyntax();
        tokens.whitespaceChars(0, ' ');
        tokens.wordChars('+', 'z'); // numbers, true, false and null
        for (char c : "{}[]:,".toCharArray()) tokens.ordinaryChar(c);
        tokens.quoteChar('"');
        var members = new HashMap<String, String>();
        var within = new ArrayDeque<String>();
        String path = "", last = null;
        for (int token = tokens.nextToken(); token != StreamTokenizer.TT_EOF; token = tokens.nextToken()) {
            if (token == ':') path = within.getFirst() + last;
            if (",}]".indexOf(token) >= 0 && last != null) members.put(path, last);
            if (token == '{' || token == '[') within.push(path.isEmpty() ? "" : path + ".");
            if (token == '}' || token == ']') within.pop();
            last = token == '"' || token == StreamTokenizer.TT_WORD ? tokens.sval : null;
        }
        return members;
    }

    public static void main(String[] args) throws Exception {
        for (var line : Files.readAllLines(Path.of(args[0]))) {
            if (!line.isBlank() && !line.startsWith("#")) keys.add(key(line.strip()));
        }
        System.setProperty("sun.net.httpserver.maxReqTime", "10"); // seconds, for a body that trickles
        var port = Integer.parseInt(System.getenv().getOrDefault("PORT", "9090"));
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 0);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.createContext("/", exchange -> {
            exchange.sendResponseHeaders(receive(exchange), -1);
            exchange.close();
        });
        server.start();
        System.out.println("http://127.0.0.1:" + server.getAddress().getPort() + "/");
    }
}
