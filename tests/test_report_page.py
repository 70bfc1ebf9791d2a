"The pages that the project makes, opened in a real browser: the report, made from made-up records, and the page of a small prediction."
import json
from pathlib import Path

import pytest

CHROMIUM = Path('/usr/bin/chromium')
QUIET = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

needs_chromium = pytest.mark.skipif(not CHROMIUM.exists(), reason='chromium is not installed: apt-get install chromium')


def _figure(run, name, kind):
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    from mpst_nb.report import save_figure
    fig, ax = plt.subplots(figsize=(3, 2)); ax.plot([0, 1, 0])
    figure = save_figure(run, fig, name, alt=f'a made-up {name}', caption='A caption with <angles> & an ampersand.', kind=kind)
    plt.close(fig)
    return figure


@pytest.fixture
def page_of(runs):
    "Makes the report of some fake records and returns its path."
    from mpst_nb.core import Run
    from mpst_nb.report import fake_runs, write_report
    def make(profile='demo', seeds=(0, 1), **kw):
        fake_runs(profile, seeds, **kw)
        for name, kind in dict(fig1='svg', fig2='svg', fig3='svg', fig4='png').items():
            with Run(name, dict(profile=profile)) as run: run.save({}, figures=[_figure(run, name, kind)])
        return write_report(profile)
    return make


@pytest.fixture
def browser():
    playwright = pytest.importorskip('playwright.sync_api')
    with playwright.sync_playwright() as p:
        b = p.chromium.launch(executable_path=str(CHROMIUM), headless=True, args=QUIET)
        yield b
        b.close()


def _open(browser, path, **kw):
    "The open page, what its console said, and what it asked for."
    page = browser.new_page(**kw)
    said, asked = [], []
    page.on('console', lambda m: said.append(m.text) if m.type in ('error', 'warning') else None)
    page.on('pageerror', lambda e: said.append(str(e)))
    page.on('request', lambda r: asked.append(r.url))
    page.goto(path.as_uri(), wait_until='load')
    return page, said, asked


@needs_chromium
@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_page_is_whole_and_silent(page_of, browser, scheme):
    path = page_of()
    page, said, asked = _open(browser, path, color_scheme=scheme)
    assert said == []
    assert [u for u in asked if not u.startswith('data:') and u != path.as_uri()] == []
    images = page.eval_on_selector_all('img', 'all => all.map(i => [i.alt, i.complete && i.naturalWidth, i.getBoundingClientRect().width])')
    assert len(images) == 4 and all(alt and natural > 0 and width > 0 for alt, natural, width in images), images
    strips = page.eval_on_selector_all('svg.strip', 'all => all.map(s => [s.getBoundingClientRect().width, s.getAttribute("aria-label")])')
    assert len(strips) >= 10 and all(w > 0 and label for w, label in strips)
    assert page.eval_on_selector_all('a[href^="#"]', 'all => all.filter(a => !document.getElementById(a.getAttribute("href").slice(1))).map(a => a.outerHTML)') == []
    assert page.evaluate('document.documentElement.scrollWidth <= window.innerWidth'), 'the page scrolls sideways'


@needs_chromium
@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_text_is_legible(page_of, browser, scheme):
    "Contrast of text against what is behind it is at least 4.5 (WCAG AA), in both colour schemes."
    page, *_ = _open(browser, page_of(), color_scheme=scheme)
    worst = page.evaluate('''() => {
        const rgb = c => c.match(/[\\d.]+/g).map(Number), light = c => { const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b };
        const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > .9) return c } return [255, 255, 255] };
        let worst = [99, ''];
        for (const e of document.querySelectorAll('body *')) {
            if (![...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim()) || !e.getClientRects().length) continue;
            const a = light(rgb(getComputedStyle(e).color)), b = light(behind(e)), k = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
            if (k < worst[0]) worst = [k, e.outerHTML.slice(0, 200)];
        }
        return worst }''')
    assert worst[0] >= 4.5, worst


@needs_chromium
def test_a_lost_run_is_a_cell(page_of, browser):
    page, said, _ = _open(browser, page_of('quick', (0,), skip=('hrnet_48', 'gt')))
    assert said == []
    row = page.locator('#table1 ~ div.scroll tr', has_text='HRNet-48').first
    assert row.locator('td.missing').count() == 5
    assert 'mpst run train -p profile quick -p method hrnet_48' in page.locator('main').inner_text()
    assert page.locator('#table1 ~ div.scroll tr', has_text='Baseline (32 frames)').first.locator('td.measured').count() == 5
    assert 'one seed' in page.locator('table.claims').inner_text()
    words = dict(zip(page.locator('table.claims tbody tr[id] td:first-child').all_inner_texts(), page.locator('table.claims .badge').all_inner_texts()))
    assert {n for n, w in words.items() if w != 'not decided'} == {'2b', '7'}, words     # one seed decides nothing but costs


@needs_chromium
def test_every_number_leads_to_its_run(page_of, browser):
    page, *_ = _open(browser, page_of())
    loose = page.eval_on_selector_all('td.measured', 'all => all.filter(c => /\\d/.test(c.textContent) && !(c.querySelector("a") && c.title.includes("git"))).map(c => c.outerHTML)')
    assert loose == []


def test_empty_project_has_a_page(runs):
    "Without any run the page still says what to run."
    from mpst_nb.report import write_report
    text = write_report('quick').read_text()
    assert text.count('not run') > 40 and 'mpst run fig4 -p profile quick' in text
    assert [p.name for p in (runs/'quick'/'report').iterdir()] == ['index.html']


@pytest.fixture(scope='module')
def prediction(tmp_path_factory):
    "A prediction of a few frames of four small videos, by a network that was never trained."
    import cv2, numpy as np, torch
    from mpst_nb.camera import example_cameras
    from mpst_nb.data.rig import VideoWriter, write_calibration
    from mpst_nb.models.detector import create_model
    from mpst_nb.predict import predict_videos
    d, size = tmp_path_factory.mktemp('prediction'), (160, 120)
    cameras = [c.cropped(np.array([[size[0]/1000, 0, 0], [0, size[0]/1000, 0.]]), size) for c in example_cameras('none')]
    for c in cameras:
        with VideoWriter(d/f'{c.name}.mp4', 25) as w:
            for t in range(12):
                image = np.full((size[1], size[0], 3), 60, np.uint8)
                x, y = np.nan_to_num(c.project([20.*t, 0, 900]))
                cv2.circle(image, (int(x), int(y)), 12, (255, 255, 255), -1)
                w.add(image)
    write_calibration(d/'rig.json', cameras)
    torch.manual_seed(0)
    model = create_model('mpst', 'quick', frames=8, identity_start=False)
    return predict_videos([d/f'{c.name}.mp4' for c in cameras], d/'rig.json', d/'out', model=model, box='axes', say=None, device='cpu')/'index.html'


@needs_chromium
def test_page_of_a_prediction(prediction, browser):
    "It has a script: the skeleton is drawn, turns, and plays with the film; nothing is said on the console and nothing but the page is asked for."
    page, said, asked = _open(browser, prediction)
    fps = json.loads((prediction.parent/'predictions.json').read_text())['fps']
    ink = '() => document.getElementById("skeleton").toDataURL()'
    blank = page.evaluate('() => { const c = document.createElement("canvas"); c.width = 960; c.height = 560; return c.toDataURL() }')
    first = page.evaluate(ink)
    assert first != blank and page.inner_text('#time').startswith('frame 0')
    page.locator('#skeleton').scroll_into_view_if_needed()
    box = page.locator('#skeleton').bounding_box()
    page.mouse.move(box['x']+300, box['y']+200); page.mouse.down(); page.mouse.move(box['x']+380, box['y']+230, steps=4); page.mouse.up()
    turned = page.evaluate(ink)
    assert turned != first
    page.mouse.wheel(0, 200); page.wait_for_timeout(200)
    assert page.evaluate(ink) != turned
    page.click('#play'); page.wait_for_function('() => !document.getElementById("time").textContent.startsWith("frame 0 ")', timeout=60_000)
    page.click('#play'); page.wait_for_function('() => document.querySelector("video").paused', timeout=60_000)
    page.fill('#frame', '5'); assert page.inner_text('#time').startswith('frame 5')
    page.wait_for_function(f'() => !document.querySelector("video").seeking && Math.floor(document.querySelector("video").currentTime*{fps}) == 5', timeout=60_000)
    pictures = page.eval_on_selector_all('img', 'all => all.map(i => [i.alt, i.naturalWidth])')
    assert len(pictures) == 3 and all(alt and w > 100 for alt, w in pictures), pictures
    assert page.locator('table').count() == 2 and page.locator('table').first.locator('tr').count() == 18
    outside = [u for u in asked if not u.startswith('data:') and u != prediction.as_uri()]
    assert outside == [] and said == []


@needs_chromium
def test_page_whose_film_is_gone(prediction, browser, tmp_path):
    "A film that lay beside its page and was left behind: the skeleton plays by itself."
    import re
    (tmp_path/'index.html').write_text(re.sub(r'src="data:video/mp4[^"]*"', 'src="overlay.mp4"', prediction.read_text()))
    page, *_ = _open(browser, tmp_path/'index.html')
    page.wait_for_function('() => film === null', timeout=60_000)
    page.click('#play'); page.wait_for_function('() => !document.getElementById("time").textContent.startsWith("frame 0 ")', timeout=60_000)
