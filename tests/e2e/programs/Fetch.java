import java.net.InetSocketAddress;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

/** METHOD URL [proxy]: print the body; Java reads no proxy variable, so it is told, or connects by itself. */
public class Fetch {
    public static void main(String[] arguments) throws Exception {
        var builder = HttpClient.newBuilder();
        if (arguments.length > 2) builder.proxy(ProxySelector.of(new InetSocketAddress("10.200.0.1", 3128)));
        var request = HttpRequest.newBuilder(URI.create(arguments[1])).method(arguments[0], BodyPublishers.noBody());
        var response = builder.build().send(request.build(), BodyHandlers.ofString());
        System.out.print(response.body());
        System.exit(response.statusCode() < 400 ? 0 : 22);
    }
}
