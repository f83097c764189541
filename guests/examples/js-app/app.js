// An app handler in JavaScript: `fetch` events, as in a service worker.

addEventListener('fetch', (event) => event.respondWith(serve(event.request)));

async function serve(request) {
  const { pathname } = new URL(request.url);
  switch (pathname) {
    case '/':
    case '/js/hello':
      return new Response('hello from js-app\n', { headers: { 'content-type': 'text/plain; charset=utf-8' } });
    case '/js/echo':
      return new Response(request.body, { headers: { 'content-type': 'application/octet-stream' } });
    case '/js/json':
      return Response.json({ method: request.method, agent: request.headers.get('user-agent') });
    default:
      return new Response('not found\n', { status: 404 });
  }
}
