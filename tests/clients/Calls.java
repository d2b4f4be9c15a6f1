// Java's own HttpClient: java Calls.java SECONDS KEY (URL BODY)...
// All calls side by side; a line for each, in their order: its status, a tab, its body.
// SECONDS is the timeout of a request, that is, of silence before its head.
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.ArrayList;
import java.util.concurrent.CompletableFuture;

class Calls {
    public static void main(String[] words) {
        var client = HttpClient.newHttpClient();
        var lines = new ArrayList<CompletableFuture<String>>();
        for (int i = 2; i < words.length; i += 2) {
            var request = HttpRequest.newBuilder(URI.create(words[i]))
                .timeout(Duration.ofMillis((long) (Double.parseDouble(words[0]) * 1000)))
                .header("Authorization", "Bearer " + words[1])
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(words[i + 1]))
                .build();
            lines.add(client.sendAsync(request, BodyHandlers.ofString())
                .thenApply(answer -> answer.statusCode() + "\t" + answer.body().strip())
                .exceptionally(error -> "0\t" + error));
        }
        lines.forEach(line -> System.out.println(line.join()));
    }
}
