# SPDX-License-Identifier: Apache-2.0
"""Plots in a file of their own, read as XML."""

from xml.etree import ElementTree

from lw_refinenet_ros.svg import Axis, Plot, drawing

SVG = '{http://www.w3.org/2000/svg}'


def test_a_drawing_is_a_file_of_plots_below_each_other_with_all_text_escaped():
    bad = '<script>&"\''
    plots = []
    for _ in range(2):
        plot = Plot(Axis(f'x {bad}', 0, 10), Axis(f'y {bad}', 0, 100))
        plot.line([[(0, 0), (5, 50)], [(6, 60), (10, 100)]])
        plot.dots([[(0, 0), (10, 200)]])
        plot.bar(0, 10, (0, 50), 'bar', bad)
        plot.levels([50], bad)
        plot.upright(5, bad, 'start', 5)
        plot.link((5, 50), 'place', bad)
        plots.append(plot)
    text = drawing(bad, plots, [('line', bad)])
    assert '<script>' not in text
    root = ElementTree.fromstring(text)
    height = float(root.get('height'))
    tops = [float(plot.get('y')) for plot in root.findall(f'{SVG}svg')]
    bottoms = [top + float(plot.get('height')) for top, plot in zip(tops, root.findall(f'{SVG}svg'))]
    assert 0 < tops[0] < bottoms[0] < tops[1] < bottoms[1] < height
    texts = [element.text for element in root.iter() if element.text and bad in element.text]
    assert len(texts) == 2 + 2 * 6
    lines = root.findall(f'.//{SVG}polyline')
    assert [line.get('points') for line in lines] == 2 * ['0.0,100.0 50.0,50.0', '60.0,40.0 100.0,0.0']
    assert len(root.findall(f".//{SVG}svg[@class='over']")) == 2, 'what lies above is not marked'
