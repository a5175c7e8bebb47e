// Calls of the HTTP API.

/** The address below which the server answers; "": that of the page. A console stands elsewhere. */
export const place = { base: '' };

/** The address of a path of this server. */
export function below(path: string): URL {
  return new URL(path, place.base || document.baseURI);
}

/** An error that the API answered, or that kept it from answering. */
export class ApiError extends Error {
  constructor(readonly type: string, message: string, readonly status: number) {
    super(message);
  }
}

/** The data of an answer, with what the server said besides. */
export interface Answer<T> { data: T; warnings: string[]; infos: string[]; /** The version of a list, as topics have it; null: it has none. */ version: number | null }

interface Envelope { status: string; data: unknown; errorType?: string; error?: string; warnings?: string[]; infos?: string[] }

/** Parameters of a call; undefined ones are left out. */
export type Params = Record<string, string | number | string[] | undefined>;

function encode(params: Params): URLSearchParams {
  const out = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (Array.isArray(value)) value.forEach((one) => out.append(name, one));
    else if (value !== undefined) out.set(name, String(value));
  }
  return out;
}

/** Fetches, with an error that says so if the server is not there, or goes while it answers. */
async function reach<T>(path: string, init: RequestInit, take: (response: Response) => Promise<T>): Promise<T> {
  try {
    return await take(await fetch(below(path), init));
  } catch (e) {
    if (init.signal?.aborted || e instanceof ApiError) throw e;
    throw new ApiError('network', 'The server cannot be reached.', 0);
  }
}

/** An answer with its text. */
async function textOf(response: Response): Promise<{ response: Response; body: string }> {
  return { response, body: await response.text() };
}

/** Calls `path` below `api/v1/`. Long parameters go by POST, where the endpoint takes both. */
export async function call<T>(path: string, params: Params = {}, signal?: AbortSignal, method?: string): Promise<Answer<T>> {
  const text = encode(params).toString();
  const post = method === 'POST' || (method === undefined && text.length > 2000);
  const init: RequestInit = { method: method ?? (post ? 'POST' : 'GET'), cache: 'no-store', ...(signal ? { signal } : {}) };
  if (post) init.body = new URLSearchParams(text);
  const { response, body } = await reach(`api/v1/${path}${post || text === '' ? '' : `?${text}`}`, init, textOf);
  let envelope: Envelope;
  try {
    envelope = body === '' ? { status: response.ok ? 'success' : 'error', data: null } : (JSON.parse(body) as Envelope);
  } catch {
    throw new ApiError('http', body.trim().slice(0, 2000) || response.statusText, response.status);
  }
  if (envelope.status !== 'success') throw new ApiError(envelope.errorType ?? '', envelope.error ?? 'no reason was given', response.status);
  const version = /"(\d+)"/.exec(response.headers.get('etag') ?? '')?.[1];
  return { data: envelope.data as T, warnings: envelope.warnings ?? [], infos: envelope.infos ?? [], version: version === undefined ? null : Number(version) };
}

/** Sends JSON to `path` below `api/v1/`. */
export async function send<T>(method: string, path: string, body: unknown, signal?: AbortSignal): Promise<T> {
  const init = { method, body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' }, ...(signal ? { signal } : {}) };
  const { response, body: text } = await reach(`api/v1/${path}`, init, textOf);
  let envelope: Envelope;
  try {
    envelope = text === '' ? { status: response.ok ? 'success' : 'error', data: null } : (JSON.parse(text) as Envelope);
  } catch {
    throw new ApiError('http', text.trim().slice(0, 2000), response.status);
  }
  if (envelope.status !== 'success') throw new ApiError(envelope.errorType ?? '', envelope.error ?? 'no reason was given', response.status);
  return envelope.data as T;
}

/** The lines of an answer of the search endpoints. */
export async function search(kind: 'metric_names' | 'label_names' | 'label_values', params: Params, signal?: AbortSignal): Promise<SearchResult[]> {
  const { response, body } = await reach(`api/v1/search/${kind}?${encode(params).toString()}`, signal ? { signal } : {}, textOf);
  const found: SearchResult[] = [];
  for (const line of body.split('\n')) {
    if (line === '') continue;
    const part = JSON.parse(line) as { results?: FoundLine[]; status?: string; error?: string };
    if (part.status === 'error') throw new ApiError('search', part.error ?? '', response.status);
    // Values of labels come as `value`, names as `name`.
    for (const { name, value, ...about } of part.results ?? []) found.push({ name: name ?? value ?? '', ...about });
  }
  return found;
}

/** A name that a search found. */
export interface SearchResult { name: string; type?: string; help?: string }

interface FoundLine extends Omit<SearchResult, 'name'> { name?: string; value?: string }

/** Posts JSON to `path` below `api/v1/`; `tell` hears the lines before the answer. */
export async function follow<T, P>(path: string, body: unknown, tell: (progress: P) => void, signal: AbortSignal): Promise<T> {
  const init = { method: 'POST', body: JSON.stringify(body), headers: { 'Content-Type': 'application/json', Accept: 'application/x-ndjson' }, signal };
  let answer: Envelope | null = null;
  const take = (line: string) => {
    if (line.trim() === '') return;
    const value = JSON.parse(line) as Partial<Envelope> & { progress?: P };
    if (value.progress !== undefined) tell(value.progress);
    else answer = value as Envelope;
  };
  const status = await reach(`api/v1/${path}`, init, async (response) => {
    let rest = '';
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    try {
      for (let piece = await reader?.read(); piece && !piece.done; piece = await reader!.read()) {
        const lines = (rest + piece.value).split('\n');
        rest = lines.pop() ?? '';
        lines.forEach(take);
      }
      take(rest);
    } catch (e) {
      if (!(e instanceof SyntaxError)) throw e;
      throw new ApiError('http', rest.slice(0, 2000), response.status);
    }
    return response.status;
  });
  const last = answer as Envelope | null;
  if (last?.status !== 'success') throw new ApiError(last?.errorType ?? 'http', last?.error ?? 'the answer has no end', status);
  return last.data as T;
}
